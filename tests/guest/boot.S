/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The test guest: a boot sector that counts, for ever, in RAM, on the first disk, the second and so on, in this order.
 * So at every instant, with c the counter in RAM and d1, d2... the highest on each disk, c >= d1 >= d2 >= ... >= c - 1.
 * guest_layout.h says what is where.
 *
 * It is the first sector of the first disk, runs in real mode on a BIOS, and goes on where that disk's counter is. On a
 * screen it shows the counter: in hexadecimal, and below that each digit as a block of the colour that has this number,
 * which a program can read off a picture. The power button turns the machine off (where it has ACPI), the key R resets
 * it, and P lets it panic (where it has a pvpanic device).
 *
 * It is assembled into the harness as the constant guest_boot (guest.h), and runs elsewhere: so no address is left to
 * the linker, AT() gives each as the machine will see it.
 */
#include "guest_layout.h"

#define RAM(word) (GUEST_RAM + GUEST_WORD * (word))
#define BUFFER 0x9000
#define SECTOR(word) (BUFFER + GUEST_WORD * (word))
#define READ 0x42 /* INT 13h, by block address */
#define WRITE 0x43
#define FIRST_DISK 0x80
#define BIOS_DISKS 0x475 /* the BIOS's count of them, a byte */
#define SCREEN 0xb800
#define ROW 160
#define BLOCK 0xdb /* the character that fills its cell */
#define TIMER_HZ 1193182
#define PM_STATUS 0x600 /* ACPI's power management, where SeaBIOS puts it */
#define PM_ENABLE 0x602
#define PM_CONTROL 0x604
#define PM_BUTTON 0x100
#define PM_OFF 0x2000
#define PVPANIC 0x505
#define LOADED 0x7c00 /* where the BIOS puts a boot sector */
#define AT(label) (label - guest_boot + LOADED)

    .section .rodata
    .code16
    .globl guest_boot
    .balign 16
guest_boot:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $LOADED, %sp
    ljmp $0, $AT(begin)

begin:
    cld
    sti
    xorl %eax, %eax
    movl %eax, RAM(GUEST_RAM_MAGIC)
    movl %eax, RAM(GUEST_RAM_ERRORS)
    movb BIOS_DISKS, %al
    movl %eax, RAM(GUEST_RAM_DISKS)
    pushw $(GUEST_TRAIL >> 4)
    popw %fs
    pushw $SCREEN
    popw %gs
    movw $3, %ax /* a clear screen */
    int $0x10
    movb $0x34, %al /* timer 0: a rate */
    outb %al, $0x43
    movb $((TIMER_HZ / GUEST_HZ) & 0xff), %al
    outb %al, $0x40
    movb $((TIMER_HZ / GUEST_HZ) >> 8), %al
    outb %al, $0x40

    movw $PM_ENABLE, %dx
    movw $PM_BUTTON, %ax
    outw %ax, %dx

    /* The highest counter on the first disk. */
    xorl %ebp, %ebp
    movl $(GUEST_SLOTS - 1), %ecx
look:
    movl %ecx, %eax
    movw $((READ << 8) | FIRST_DISK), %dx
    call transfer
    cmpl $GUEST_MAGIC, SECTOR(GUEST_SECTOR_MAGIC)
    jne 1f
    movl SECTOR(GUEST_SECTOR_COUNTER), %eax
    cmpl %ebp, %eax
    jb 1f
    movl %eax, %ebp
1:  decw %cx
    jns look
    testl %ebp, %ebp
    jnz 2f
    incw %bp
2:  movl %ebp, RAM(GUEST_RAM_COUNTER) /* written once more: the other disks may lack it */
    movl %ebp, RAM(GUEST_RAM_FIRST)
    movl $GUEST_MAGIC, RAM(GUEST_RAM_MAGIC)

step:
    movl RAM(GUEST_RAM_COUNTER), %eax
    movw %ax, %si
    andw $(GUEST_TRAIL_WORDS - 1), %si
    shlw $2, %si
    movl %eax, %fs:(%si)

    movw $BUFFER, %di
    movw $(GUEST_SECTOR / GUEST_WORD), %cx
    rep stosl
    movl $GUEST_MAGIC, SECTOR(GUEST_SECTOR_MAGIC)
    movl RAM(GUEST_RAM_FIRST), %eax
    movl %eax, SECTOR(GUEST_SECTOR_FIRST)

    movw $((WRITE << 8) | FIRST_DISK), %dx
    movw RAM(GUEST_RAM_DISKS), %cx
disk:
    movzbl %dl, %eax
    movl %eax, SECTOR(GUEST_SECTOR_DISK)
    movl RAM(GUEST_RAM_COUNTER), %eax
    call transfer
    incw %dx
    loop disk

    /* From the last digit to the first. */
    movl RAM(GUEST_RAM_COUNTER), %edx
    movw $14, %di
digit:
    movb %dl, %ah
    andb $0x0f, %ah
    movb $BLOCK, %al
    movw %ax, %gs:ROW(%di)
    movb %ah, %al
    cmpb $10, %al
    sbbb $0x69, %al
    das /* 0-15 to '0'-'9', 'A'-'F' */
    movb $0x0f, %ah
    movw %ax, %gs:(%di)
    shrl $4, %edx
    subw $2, %di
    jns digit

    movw $PM_STATUS, %dx
    inw %dx, %ax
    testw $PM_BUTTON, %ax
    jz 4f
    movw $PM_CONTROL, %dx
    movw $PM_OFF, %ax
    outw %ax, %dx
4:  movb $1, %ah /* a key? */
    int $0x16
    jz 6f
    movb $0, %ah
    int $0x16
    cmpb $'r', %al
    jne 5f
    movb $0xfe, %al
    outb %al, $0x64
5:  cmpb $'p', %al
    jne 6f
    movb $1, %al
    movw $PVPANIC, %dx
    outb %al, %dx
6:  hlt
    incl RAM(GUEST_RAM_COUNTER)
    jmp step

/* The sector of counter eax, between the buffer and disk dl; dh is READ or WRITE. */
transfer:
    andl $(GUEST_SLOTS - 1), %eax
    shll $GUEST_STRIDE_SHIFT, %eax
    addl $GUEST_RING, %eax
    movl %eax, AT(address)
    movw $1, AT(count) /* a transfer that failed has set it to 0 */
    movw $AT(packet), %si
    movb %dh, %ah
    movb $0, %al
    int $0x13
    jnc 3f
    incl RAM(GUEST_RAM_ERRORS)
3:  ret

    .balign 4
packet:
    .byte 16, 0
count:
    .word 1
    .word BUFFER, 0
address:
    .quad 0

    .fill GUEST_SECTOR - 2 - (. - guest_boot), 1, 0
    .word 0xaa55

    .size guest_boot, GUEST_SECTOR
    .section .note.GNU-stack, "", @progbits
