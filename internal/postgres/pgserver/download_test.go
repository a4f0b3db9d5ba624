package pgserver_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/postgres/pgserver"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// TestDownload downloads from a Maven repository whose archive holds links to
// the programs of this machine, and runs a server from them.
func TestDownload(t *testing.T) {
	t.Parallel()
	archive := archiveOfLinks(t, "")

	t.Run("a server runs from the downloaded programs, which are downloaded once", func(t *testing.T) {
		t.Parallel()
		server := pgtest.Server(t, nil)
		stop(t, server)
		dir := server.Config().Dir
		repository := mavenRepository(t, archive, true)
		bin, err := pgserver.Download(t.Context(), dir, repository.URL, 0)
		if err != nil {
			t.Fatal(err)
		}
		config := server.Config()
		config.Binaries = bin
		insertRow(t, newServer(t, config))

		for _, left := range []string{"programs.new", "programs/archive", "programs/try"} {
			if _, err := os.Lstat(filepath.Join(dir, left)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is still there (%v)", left, err)
			}
		}
		repository.Close()
		if again, err := pgserver.Download(t.Context(), dir, repository.URL, 0); again != bin || err != nil {
			t.Errorf("without the network, the second time: %q (%v), want %q", again, err, bin)
		}
	})
	t.Run("an archive with another checksum is refused", func(t *testing.T) {
		t.Parallel()
		repository := mavenRepository(t, archive, false)
		_, err := pgserver.Download(t.Context(), reachableFolder(t), repository.URL, 0)
		if err == nil || !strings.Contains(err.Error(), "checksums do not match") {
			t.Errorf("err = %v, want one about the checksum", err)
		}
	})
	t.Run("an archive that is damaged after the programs is refused", func(t *testing.T) {
		t.Parallel()
		repository := mavenRepository(t, archiveOfLinks(t, strings.Repeat("x", 512)), true)
		_, err := pgserver.Download(t.Context(), reachableFolder(t), repository.URL, 0)
		if err == nil || !strings.Contains(err.Error(), "invalid tar header") {
			t.Errorf("err = %v, want one about the archive", err)
		}
	})
	t.Run("without a network the error says what else to do", func(t *testing.T) {
		t.Parallel()
		_, err := pgserver.Download(t.Context(), reachableFolder(t), "http://127.0.0.1:1", 0)
		if err == nil || !strings.Contains(err.Error(), "install it, or set DATABASE_URL") {
			t.Errorf("err = %v, want one that says what else to do", err)
		}
	})
	t.Run("a repository that never answers is given up when the context ends", func(t *testing.T) {
		t.Parallel()
		repository, asked := silentRepository(t)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-asked
			cancel()
		}()
		if _, err := pgserver.Download(ctx, reachableFolder(t), repository.URL, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("err = %v, want context.Canceled", err)
		}
	})
	t.Run("or when the time is over", func(t *testing.T) {
		t.Parallel()
		repository, _ := silentRepository(t)
		if _, err := pgserver.Download(t.Context(), reachableFolder(t), repository.URL, time.Millisecond); err == nil || !strings.HasSuffix(err.Error(), ": it takes longer than 1ms") {
			t.Errorf("err = %v, want one that says how long it took", err)
		}
	})
}

// silentRepository starts a repository that says when it is asked, and answers
// only at the end of the test.
func silentRepository(t *testing.T) (repository *httptest.Server, asked <-chan struct{}) {
	t.Helper()
	heard, end := make(chan struct{}, 1), make(chan struct{})
	repository = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		select {
		case heard <- struct{}{}:
		default:
		}
		<-end
	}))
	t.Cleanup(repository.Close)
	t.Cleanup(func() { close(end) })
	return repository, heard
}

// reachableFolder returns the path of a new folder that every account can
// reach.
func reachableFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, folder := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "postgres")
}

func mavenRepository(t *testing.T, archive []byte, honest bool) *httptest.Server {
	t.Helper()
	var jar bytes.Buffer
	z := zip.NewWriter(&jar)
	file, err := z.Create("postgres.txz")
	if err != nil {
		t.Fatal(err)
	}
	_, writeErr := file.Write(archive)
	if err := errors.Join(writeErr, z.Close()); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(jar.Bytes())
	if !honest {
		sum[0]++
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".sha256") {
			fmt.Fprintf(w, "%x", sum)
			return
		}
		_, _ = w.Write(jar.Bytes())
	}))
	t.Cleanup(server.Close)
	return server
}

// archiveOfLinks is an archive as the repository has them, tar in xz, unless rest
// is what follows its links instead of the end.
func archiveOfLinks(t *testing.T, rest string) []byte {
	t.Helper()
	bin, err := pgserver.FindBinaries()
	if err != nil {
		t.Fatal(err)
	}
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	programs := []string{"initdb", "pg_ctl", "postgres"}
	for _, program := range programs {
		err := archive.WriteHeader(&tar.Header{
			Typeflag: tar.TypeSymlink, Name: "bin/" + program, Linkname: filepath.Join(bin, program),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if rest != "" {
		buffer.Truncate(len(programs) * 512)
		buffer.WriteString(rest)
	}
	return xz(buffer.Bytes())
}

// xz packs up to 64 KiB, without compression (The .xz File Format, 1.2.1).
func xz(content []byte) []byte {
	sum := func(b []byte) []byte { return binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(b)) }
	pad := func(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }

	flags := []byte{0, 0} // no check
	header := append([]byte("\xfd7zXZ\x00"), flags...)
	header = append(header, sum(flags)...)

	block := []byte{2, 0, 0x21, 1, 0x16, 0, 0, 0} // 12 bytes, one filter: LZMA2, 8 MiB
	block = append(block, sum(block)...)
	block = append(block, 1) // a chunk that is not compressed
	block = binary.BigEndian.AppendUint16(block, uint16(len(content)-1))
	block = append(append(block, content...), 0)

	index := []byte{0, 1}
	index = binary.AppendUvarint(index, uint64(len(block)))
	index = binary.AppendUvarint(index, uint64(len(content)))
	index = pad(index)
	index = append(index, sum(index)...)

	footer := binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1))
	footer = append(footer, flags...)
	return bytes.Join([][]byte{header, pad(block), index, sum(footer), footer, []byte("YZ")}, nil)
}
