#include "go_asm.h"
#include "textflag.h"

#define SYS_mmap 222
#define PROT_READ_WRITE 3
#define MAP_FIXED_PRIVATE_ANONYMOUS_NORESERVE 0x4032
#define PAGE 4096
#define BUS_ADRERR 2

// onFault is the handler of SIGBUS.
//
// The kernel's convention: R0 signal, R1 siginfo, R2 context; R30 is the restorer, which gives every register its value back.
TEXT onFault<>(SB), NOSPLIT|NOFRAME, $0
	MOVD 16(R1), R9              // si_addr
	MOVD $·handling(SB), R10
count:
	LDAXRW (R10), R11
	ADDW $1, R11, R11
	STLXRW R11, (R10), R12
	CBNZ R12, count
	DMB  $0xb
	MOVW 8(R1), R11              // si_code: not sent by somebody, and not another fault, which zeros do not cure
	CMPW $BUS_ADRERR, R11
	BNE  pass
	MOVD $·guards(SB), R13
table:
	ADD  $guardTable_ranges, R13, R14
	MOVD $const_guardRanges, R15
range:
	ADD  $guardRange_size, R14, R16
	LDAR (R16), R17              // before base and fault
	MOVD guardRange_base(R14), R19
	SUB  R19, R9, R20
	CMP  R17, R20
	BLO  found
	ADD  $guardRange__size, R14, R14
	SUBS $1, R15, R15
	BNE  range
	ADD  $guardTable_next, R13, R16
	LDAR (R16), R13
	CBNZ R13, table
pass: // not ours
	LDAXRW (R10), R11
	SUBW $1, R11, R11
	STLXRW R11, (R10), R12
	CBNZ R12, pass
	MOVD ·former(SB), R9
	JMP  (R9)
found:
	MOVD guardRange_fault(R14), R20
	STLR R9, (R20)               // before the zeros can be seen
	DMB  $0xb
	MOVD R0, R20
	MOVD R1, R21
	MOVD R2, R22
	MOVD R19, R0
	MOVD R17, R1
again:
	MOVD R1, R23
	MOVD $PROT_READ_WRITE, R2
	MOVD $MAP_FIXED_PRIVATE_ANONYMOUS_NORESERVE, R3
	MOVD $-1, R4
	MOVD $0, R5
	MOVD $SYS_mmap, R8
	SVC
	CMN  $4095, R0
	BCC  done
	AND  $~(PAGE-1), R9, R0      // not so much memory to promise: one page, and the next one when it is touched
	MOVD $PAGE, R1
	CMP  R1, R23
	BNE  again
	MOVD R20, R0
	MOVD R21, R1
	MOVD R22, R2
	JMP  pass
done:
	LDAXRW (R10), R11
	SUBW $1, R11, R11
	STLXRW R11, (R10), R12
	CBNZ R12, done
	RET

// func onFaultPC() uintptr
TEXT ·onFaultPC(SB), NOSPLIT, $0-8
	MOVD $onFault<>(SB), R0
	MOVD R0, ret+0(FP)
	RET
