#include "textflag.h"

// func Delay(n int)
TEXT ·Delay(SB), NOSPLIT, $0-8
	MOVQ n+0(FP), CX
	MOVQ CX, AX
	TESTQ CX, CX
	JLE  done
	LFENCE
again:
	IMULQ AX, AX
	DECQ CX
	JNZ  again
	LFENCE
done:
	RET
