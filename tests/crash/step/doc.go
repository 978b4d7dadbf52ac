// Package step takes a process through one operation instruction by instruction, and kills or stops it before each of them.
package step
