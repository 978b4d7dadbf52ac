//go:build !race

#include "textflag.h"

// func LoadToWrite(p *atomic.Uint64) uint64
TEXT ·LoadToWrite(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), AX
	BYTE $0x0F; BYTE $0x0D; BYTE $0x08 // PREFETCHW (AX)
	MOVQ (AX), AX
	MOVQ AX, ret+8(FP)
	RET
