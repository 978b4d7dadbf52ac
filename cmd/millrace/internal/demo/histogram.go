package demo

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets of 1/32 of their size, from 1 ns up.
type histogram struct {
	buckets [64 * subBuckets]uint64
	count   uint64
	most    time.Duration
}

const subBuckets = 32

// add counts one duration in nanoseconds. What a clock that was set back made negative counts as 0.
func (h *histogram) add(ns int64) {
	v := uint64(max(0, ns))
	h.buckets[bucketOf(v)]++
	h.count++
	h.most = max(h.most, time.Duration(v))
}

// bucketOf: values below 32 have a bucket each, larger ones share it with those of the same first six bits.
func bucketOf(v uint64) int {
	if v < subBuckets {
		return int(v)
	}
	shift := bits.Len64(v) - 6
	return (shift+1)*subBuckets + int(v>>shift) - subBuckets
}

// top returns the largest value of a bucket.
func top(bucket int) uint64 {
	if bucket < 2*subBuckets {
		return uint64(bucket)
	}
	shift := bucket/subBuckets - 1
	return (uint64(bucket%subBuckets+subBuckets)+1)<<shift - 1
}

// quantile returns a duration that the given part of all durations does not exceed.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.count))
	for i, n := range h.buckets {
		if n == 0 {
			continue
		}
		if rank < n {
			return min(time.Duration(top(i)), h.most)
		}
		rank -= n
	}
	return h.most
}
