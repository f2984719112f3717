package protected

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// Sectors of 512 bytes that the guest of writer writes.
const (
	writerFirst = 2048
	writerEnd   = 12288
	writerStep  = 64
)

// writer makes a boot sector that writes its own 32 KiB of memory to the disk, over and
// over again from sector writerFirst up to writerEnd, by the BIOS (int 13h, function
// 43h), and then halts.
func writer() []byte {
	code := []byte{
		0x31, 0xc0, // xor ax,ax
		0x8e, 0xd8, // mov ds,ax
		0x8e, 0xd0, // mov ss,ax
		0xbc, 0x00, 0x7c, // mov sp,0x7c00
		0x66, 0xbb, // mov ebx,writerFirst
	}
	code = binary.LittleEndian.AppendUint32(code, writerFirst)
	loop := len(code)
	code = append(code,
		0x66, 0x89, 0x1e, 0x88, 0x7c, // mov [0x7c88],ebx: the request's sector
		0xbe, 0x80, 0x7c, // mov si,0x7c80: the request
		0xb8, 0x00, 0x43, // mov ax,0x4300: write
		0xcd, 0x13, // int 0x13; dl is still the drive that was booted from
		0x66, 0x83, 0xc3, writerStep, // add ebx,writerStep
		0x66, 0x81, 0xfb, // cmp ebx,writerEnd
	)
	code = binary.LittleEndian.AppendUint32(code, writerEnd)
	code = append(code, 0x72, byte(loop-len(code)-2)) // jb loop
	code = append(code, 0xf4, 0xeb, 0xfd)             // hlt; jmp hlt
	sector := make([]byte, 512)
	copy(sector, code)
	copy(sector[0x80:], []byte{16, 0, writerStep, 0, 0x00, 0x7c}) // size, sectors, memory at 0:7c00
	copy(sector[510:], []byte{0x55, 0xaa})                        // boot signature
	return sector
}

// fullDisk gives the host a file system of 3 MiB, with the image of a guest in it
// that writes 5 MiB. path is the image as the test reaches it.
func fullDisk(t *testing.T, h *host, spec *cluster.GuestSpec) (dir, path string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "small")
	h.must(request{Op: "tmpfs", Text: dir, Number: 3})
	spec.Image = filepath.Join(dir, "writer.img")
	path = filepath.Join("/proc", h.PID(), "root", spec.Image)
	if err := os.WriteFile(path, writer(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 8<<20); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EINVAL) {
		t.Skip("skipped: tmpfs of this kernel knows no O_DIRECT (Linux 6.6 does)")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	return dir, path
}

// TestFullDisk: the guest stands still when its storage is full, and loses nothing:
// resumed after there is room again, it runs on where it was.
func TestFullDisk(t *testing.T) {
	need.Drill(t, "a guest whose storage is full stands still, loses nothing, and goes on when there is room")
	h := newHosts(t, 1)[0]
	spec := guest(t)
	dir, path := fullDisk(t, h, &spec)
	h.must(request{Op: "start", Spec: spec})
	stopped := func(g cluster.Guest) bool { return g.State == cluster.GuestPaused && g.IOError }
	first := h.until("stopped by an I/O error", stopped)

	h.must(request{Op: "resume"}) // nothing was mended: it stops again
	h.until("stopped again", stopped)
	h.must(request{Op: "close"}) // nobody need have seen how it came
	h.must(request{Op: "new"})
	h.until("stopped, for a new driver", stopped)
	h.must(request{Op: "signal", Text: "libvirtd", Number: int(syscall.SIGKILL)})
	h.must(request{Op: "daemon", Text: "libvirtd"})
	h.must(request{Op: "ready"})
	h.until("stopped, for a new libvirtd", stopped)

	h.must(request{Op: "grow", Text: dir, Number: 16})
	h.must(request{Op: "resume"})
	g := h.until("running", is(cluster.GuestRunning))
	if g.IOError || g.PID != first.PID || g.Started != first.Started {
		t.Errorf("resumed: %+v, before %+v", g, first)
	}
	awaitWritten(t, path)
	if g := h.must(request{Op: "observe"}).Guest; g.State != cluster.GuestRunning || g.IOError {
		t.Errorf("at the end: %+v", g)
	}
	h.must(request{Op: "kill"})
}

// awaitWritten waits until every piece that the guest writes is there, the one that
// failed first included.
func awaitWritten(t *testing.T, path string) {
	t.Helper()
	want := string(writer()[:16])
	try.Until(t, "every sector to be written", func() bool {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for s := writerFirst; s < writerEnd; s += writerStep {
			if string(b[s*512:s*512+len(want)]) != want {
				return false
			}
		}
		return true
	})
}
