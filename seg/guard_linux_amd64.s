#include "go_asm.h"
#include "textflag.h"

#define SYS_mmap 9
#define PROT_READ_WRITE 3
#define MAP_FIXED_PRIVATE_ANONYMOUS_NORESERVE 0x4032
#define PAGE 4096
#define BUS_ADRERR 2

// onFault is the handler of SIGBUS.
//
// The kernel's convention: DI signal, SI siginfo, DX context; the return address is the restorer, which gives every register its value back.
TEXT onFault<>(SB), NOSPLIT|NOFRAME, $0
	MOVQ 16(SI), CX              // si_addr
	LEAQ ·handling(SB), R13      // in a register: a prefix must not come before what finds a symbol in a plugin
	LOCK
	INCL (R13)
	CMPL 8(SI), $BUS_ADRERR      // si_code: not sent by somebody, and not another fault, which zeros do not cure
	JNE  pass
	LEAQ ·guards(SB), R8
table:
	LEAQ guardTable_ranges(R8), R9
	MOVQ $const_guardRanges, R10
range:
	MOVQ guardRange_size(R9), R11 // before base and fault
	MOVQ CX, AX
	SUBQ guardRange_base(R9), AX
	CMPQ AX, R11
	JCS  found
	ADDQ $guardRange__size, R9
	DECQ R10
	JNZ  range
	MOVQ guardTable_next(R8), R8
	TESTQ R8, R8
	JNZ  table
pass: // not ours
	LOCK
	DECL (R13)
	MOVQ ·former(SB), AX
	JMP  AX
found:
	MOVQ guardRange_fault(R9), R12
	MOVQ CX, (R12)               // before the zeros can be seen
	MOVQ DI, R12
	MOVQ SI, BP
	MOVQ DX, BX
	MOVQ CX, R14
	MOVQ guardRange_base(R9), DI
	MOVQ R11, SI
again:
	MOVQ $PROT_READ_WRITE, DX
	MOVQ $MAP_FIXED_PRIVATE_ANONYMOUS_NORESERVE, R10
	MOVQ $-1, R8
	MOVQ $0, R9
	MOVQ $SYS_mmap, AX
	SYSCALL
	CMPQ AX, $-4095
	JCS  done
	MOVQ R14, DI                 // not so much memory to promise: one page, and the next one when it is touched
	ANDQ $~(PAGE-1), DI
	CMPQ SI, $PAGE
	MOVQ $PAGE, SI
	JNE  again
	MOVQ R12, DI
	MOVQ BP, SI
	MOVQ BX, DX
	JMP  pass
done:
	LOCK
	DECL (R13)
	RET

// func onFaultPC() uintptr
TEXT ·onFaultPC(SB), NOSPLIT, $0-8
	LEAQ onFault<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET
