#include "textflag.h"

// func vendor() (b, d, c uint32)
TEXT ·vendor(SB), NOSPLIT, $0-12
	XORL AX, AX
	XORL CX, CX
	CPUID
	MOVL BX, b+0(FP)
	MOVL DX, d+4(FP)
	MOVL CX, c+8(FP)
	RET

// func TakeLines(p unsafe.Pointer, n uint64)
TEXT ·TakeLines(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), AX
	MOVQ n+8(FP), BX
	ADDQ AX, BX
	LEAQ -8(BX), DX // the last word
	CMPQ DX, AX
	JCS  bytes
words:
	MOVQ (AX), CX
	MOVQ CX, (AX)
	ADDQ $64, AX
	CMPQ AX, DX
	JCS  words
	MOVQ (DX), CX
	MOVQ CX, (DX)
	RET
next:
	MOVBLZX (AX), CX
	MOVB CX, (AX)
	INCQ AX
bytes:
	CMPQ AX, BX
	JCS  next
	RET
