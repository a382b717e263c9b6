/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Random but valid <domainsnapshot> and <domain> documents, complete: printing one as it is parsed changes nothing. */
#pragma once

#include "random_xml.h"

Node *random_domain(GRand *rand);

/* With a full <domain> of its own, every disk of which is listed with its mode. */
Node *random_snapshot(GRand *rand);
