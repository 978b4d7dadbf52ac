package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/cd1900cf/millrace/ring"
)

// receiveBatch is how many messages a consumer leases at once. Their reports fit into one write that a pipe takes whole.
const receiveBatch = 16

// fdReports is the pipe that a consumer process inherits.
const fdReports = 3

// successorPatience is how long the consumer of an SPSC ring waits for the successor of the only producer, which was killed.
// On an MPMC ring there is always one more producer: the parent.
const successorPatience = 20 * time.Second

// consume receives until the end of the stream. Each message is reported to the parent before it is released: what a killed
// consumer had reported but not released comes again, marked.
func consume(ctx context.Context, w Worker) error {
	out := os.NewFile(fdReports, "reports")
	r, err := ring.Open(w.Ring, ring.WithDir(w.Dir))
	if err != nil {
		return err
	}
	defer r.Close()
	var opts []ring.ConsumerOption
	if r.Options().Kind == ring.SPSC {
		opts = append(opts, ring.Grace(successorPatience))
	}
	c, err := r.NewConsumer(opts...)
	if err != nil {
		return err
	}
	batches := (w.Index+w.Incarnation)%2 == 0
	var buf []byte
	for {
		if batches {
			buf, err = takeBatch(ctx, c, out, buf[:0])
		} else {
			buf, err = takeOne(ctx, c, out, buf[:0])
		}
		if err == io.EOF {
			return c.Close()
		}
		if err != nil {
			return err
		}
	}
}

// takeBatch leases several messages and releases them one by one or at once.
func takeBatch(ctx context.Context, c *ring.Consumer, out io.Writer, buf []byte) ([]byte, error) {
	b, err := c.NextBatch(ctx, receiveBatch)
	if err != nil {
		return buf, err
	}
	for i := range b.Len() {
		buf = appendReport(buf, b.At(i))
	}
	if _, err := out.Write(buf); err != nil {
		return buf, fmt.Errorf("report: %w", err)
	}
	if half := b.Len() / 2; half > 0 { // in two steps, so that kills fall between them, too
		if err := b.At(half - 1).Release(); err != nil {
			return buf, err
		}
	}
	return buf, b.Release()
}

func takeOne(ctx context.Context, c *ring.Consumer, out io.Writer, buf []byte) ([]byte, error) {
	m, err := c.Next(ctx)
	if err != nil {
		return buf, err
	}
	buf = appendReport(buf, m)
	if _, err := out.Write(buf); err != nil {
		return buf, fmt.Errorf("report: %w", err)
	}
	return buf, m.Release()
}

// appendReport reports on one message. The checksum is taken from the ring's own memory. A message that is too short for a
// header is reported with a header of zeros, which the parent finds fault with.
func appendReport(buf []byte, m ring.Message) []byte {
	b := m.Bytes()
	r := report{position: m.Position(), deliveries: uint32(m.Deliveries()), received: time.Now().UnixNano()}
	if len(b) >= headerSize {
		r.header.get(b)
		b = b[headerSize:]
	}
	r.length, r.sum = uint32(len(b)), xxhash.Sum64(b)
	return r.append(buf)
}
