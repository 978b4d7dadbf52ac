package demo

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestScanReadsEveryRegularFile(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "a"), 0o700))
	sizes := []int64{0, 1, chunkSize, chunkSize + 1, 3 * chunkSize}
	for i, size := range sizes {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "a", string(rune('0'+i))), make([]byte, size), 0o600))
	}
	require.NoError(t, os.Symlink("a", filepath.Join(dir, "link")))
	link := filepath.Join(t.TempDir(), "root")
	require.NoError(t, os.Symlink(dir, link))

	files, skipped, err := scan(context.Background(), link)
	require.NoError(t, err)
	require.Zero(t, skipped)
	require.Len(t, files, len(sizes))
	for i, f := range files {
		require.Equal(t, sizes[i], f.size)
		require.EqualValues(t, f.chunks(), len(f.sums))
	}

	var b bytes.Buffer
	require.NoError(t, writeManifest(&b, files))
	back, err := readManifest(&b)
	require.NoError(t, err)
	for i := range files {
		files[i].sums = nil
	}
	require.Equal(t, files, back)
}

func TestLanesNumberEveryChunkOnce(t *testing.T) {
	files := []file{{size: 10 * chunkSize}, {size: 0}, {size: 3}, {size: 4 * chunkSize}, {size: 2*chunkSize - 1}}
	for producers := 1; producers < 8; producers++ {
		seen := make([]uint64, len(files))
		for _, l := range share(files, producers) {
			for n := range 2 * l.pass {
				pass, k, seq := l.locate(n)
				require.Equal(t, n/l.pass, pass)
				require.Less(t, seq, files[l.files[k]].chunks())
				seen[l.files[k]]++
				if seq+1 == files[l.files[k]].chunks() {
					require.Equal(t, pass+1, l.passes(k, n+1, seq+1))
				}
			}
		}
		for i := range files {
			require.Equal(t, 2*files[i].chunks(), seen[i])
		}
	}
}

func TestHistogramQuantiles(t *testing.T) {
	var h histogram
	for i := int64(1); i <= 100_000; i++ {
		h.add(i * 1000)
	}
	h.add(-5)
	for _, q := range []float64{0.5, 0.99, 0.999} {
		require.InEpsilon(t, q*100_000*1000, float64(h.quantile(q)), 0.04, "%v", q)
	}
	require.Equal(t, 100*time.Millisecond, h.most)
	require.Equal(t, h.most, h.quantile(1))
	for _, v := range []uint64{0, 31, 32, 63, 64, 65, 1 << 20, 1<<20 + 1<<14, math.MaxInt64} {
		b := bucketOf(v)
		require.GreaterOrEqual(t, top(b), v)
		if b > 0 {
			require.Less(t, top(b-1), v)
		}
	}
}

func TestProgressRecordsAreChecked(t *testing.T) {
	f, err := scratch()
	require.NoError(t, err)
	defer f.Close()
	p := progress{f}
	_, err = p.load()
	require.Error(t, err)
	require.NoError(t, p.store(7))
	n, err := p.load()
	require.NoError(t, err)
	require.EqualValues(t, 7, n)
	_, err = f.WriteAt([]byte{8}, 0)
	require.NoError(t, err)
	_, err = p.load()
	require.Error(t, err)
}
