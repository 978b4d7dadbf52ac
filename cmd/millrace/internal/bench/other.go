//go:build !linux

package bench

import (
	"context"

	"github.com/cd1900cf/millrace/ring"
)

// Run measures.
func Run(context.Context, Config) (*Result, error) { return nil, ring.ErrUnsupported }

// Work is a worker process.
func Work([]string) error { return ring.ErrUnsupported }

// ServeFloor is the other end of the floor.
func ServeFloor([]string) error { return ring.ErrUnsupported }
