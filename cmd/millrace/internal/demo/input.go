package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
)

// file is one file of the input: a stream of chunks.
type file struct {
	path string
	size int64
	sums []uint64 // xxhash64 of each chunk, read from the disk by the parent; nil in workers
}

// chunks is how many messages the file makes. An empty file makes an empty one.
func (f *file) chunks() uint64 { return uint64(max(1, (f.size+chunkSize-1)/chunkSize)) }

// chunk returns the length of chunk seq.
func (f *file) chunk(seq uint64) int {
	return int(min(chunkSize, f.size-int64(seq)*chunkSize))
}

// DefaultInput returns the sources of the Go toolchain.
func DefaultInput(ctx context.Context) (string, error) {
	root := os.Getenv("GOROOT")
	if root == "" {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, "go", "env", "GOROOT")
		cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local")
		if out, err := cmd.Output(); err == nil {
			root = string(bytes.TrimSpace(out))
		}
	}
	src := filepath.Join(root, "src")
	if root == "" {
		return "", &fs.PathError{Op: "find the sources of the Go toolchain", Path: "go env GOROOT", Err: fs.ErrNotExist}
	}
	if _, err := os.Stat(src); err != nil {
		return "", err
	}
	return src, nil
}

// scan lists the regular files under root and reads them all, for their checksums. Files that cannot be read are counted as
// skipped; links are not followed, but for root itself.
func scan(ctx context.Context, root string) (files []file, skipped int, err error) {
	if root, err = filepath.EvalSymlinks(root); err != nil {
		return nil, 0, err
	}
	if root, err = filepath.Abs(root); err != nil {
		return nil, 0, err
	}
	var all []file
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && path == root:
			return err
		case err != nil:
			skipped++
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case d.Type().IsRegular():
			all = append(all, file{path: path})
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	errs := sumAll(ctx, all)
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	for i := range all {
		if errs[i] != nil {
			skipped++
			continue
		}
		files = append(files, all[i])
	}
	if len(files) == 0 {
		return nil, 0, fmt.Errorf("%s: no readable file in it (%d skipped); name another with --input", root, skipped)
	}
	return files, skipped, nil
}

// sumAll reads the files, several at once.
func sumAll(ctx context.Context, files []file) []error {
	errs := make([]error, len(files))
	next := make(chan int)
	var wg sync.WaitGroup
	for range runtime.NumCPU() {
		wg.Add(1)
		go func() {
			defer wg.Done()
			buf := make([]byte, chunkSize)
			for i := range next {
				errs[i] = files[i].sum(buf)
			}
		}()
	}
	for i := range files {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	return errs
}

// sum reads the file and fills in size and sums.
func (f *file) sum(buf []byte) error {
	r, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 || len(f.sums) == 0 {
			f.size += int64(n)
			f.sums = append(f.sums, xxhash.Sum64(buf[:n]))
		}
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// writeManifest writes what the producers need to know of the files: sizes and paths.
func writeManifest(w io.Writer, files []file) error {
	var b bytes.Buffer
	for i := range files {
		fmt.Fprintf(&b, "%d\x00%s\x00", files[i].size, files[i].path)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func readManifest(r io.Reader) ([]file, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	fields := bytes.Split(b, []byte{0})
	files := make([]file, 0, len(fields)/2)
	for i := 0; i+1 < len(fields); i += 2 {
		size, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("manifest: %w", err)
		}
		files = append(files, file{path: string(fields[i+1]), size: size})
	}
	return files, nil
}

// lane is the share of one producer: its files in order, again and again. Its messages are numbered through all passes; that
// number is the sequence which the account is kept by.
type lane struct {
	files []int    // indexes into all files
	first []uint64 // number of each file's first chunk, within a pass
	pass  uint64   // messages of a pass
}

// share gives each file to the producer that has the fewest chunks so far. Parent and producers come to the same result.
func share(files []file, producers int) []lane {
	lanes := make([]lane, producers)
	for i := range files {
		least := &lanes[0]
		for p := range lanes {
			if lanes[p].pass < least.pass {
				least = &lanes[p]
			}
		}
		least.files = append(least.files, i)
		least.first = append(least.first, least.pass)
		least.pass += files[i].chunks()
	}
	return lanes
}

// locate says what message number n is: pass, index into the lane's files, chunk.
func (l *lane) locate(n uint64) (pass uint64, k int, seq uint64) {
	pass, n = n/l.pass, n%l.pass
	k = sort.Search(len(l.first), func(i int) bool { return l.first[i] > n }) - 1
	return pass, k, n - l.first[k]
}

// passes returns how often file k was streamed when the first n messages were.
func (l *lane) passes(k int, n uint64, chunks uint64) uint64 {
	pass, rest := n/l.pass, n%l.pass
	if l.first[k]+chunks <= rest {
		pass++
	}
	return pass
}
