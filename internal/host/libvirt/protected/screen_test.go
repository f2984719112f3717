package protected

import (
	"crypto/des"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
)

// vncLogin opens a VNC console by its password (RFC 6143, 7.1.2 and 7.2.2).
func vncLogin(addr, password string) error {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	hello := make([]byte, 12)
	if _, err := io.ReadFull(c, hello); err != nil {
		return err
	}
	if _, err := c.Write([]byte("RFB 003.008\n")); err != nil {
		return err
	}
	kinds := make([]byte, 2)
	if _, err := io.ReadFull(c, kinds); err != nil {
		return err
	}
	if kinds[0] != 1 || kinds[1] != 2 {
		return fmt.Errorf("it offers the kinds of security %v, want a password only", kinds)
	}
	if _, err := c.Write([]byte{2}); err != nil {
		return err
	}
	challenge := make([]byte, 16)
	if _, err := io.ReadFull(c, challenge); err != nil {
		return err
	}
	key := make([]byte, 8)
	copy(key, password)
	for i := range key {
		key[i] = bits.Reverse8(key[i])
	}
	block, err := des.NewCipher(key)
	if err != nil {
		return err
	}
	for i := 0; i < 16; i += 8 {
		block.Encrypt(challenge[i:], challenge[i:])
	}
	if _, err := c.Write(challenge); err != nil {
		return err
	}
	var result uint32
	if err := binary.Read(c, binary.BigEndian, &result); err != nil {
		return err
	}
	if result != 0 {
		return errors.New("the password is refused")
	}
	return nil
}

// A console has its host's address and its password, also after a migration and in an
// operator's own domain; nobody reads the password who does not ask as root.
func TestConsole(t *testing.T) {
	need.Drill(t, "P6: a console has its host's address and its password, also after a migration, and only root reads it")
	hosts := newHosts(t, 2)
	file := filepath.Join(t.TempDir(), "vnc")
	if err := os.WriteFile(file, []byte("s3cret-7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		h.IP("link", "set", "lo", "up") // over which a host reaches its own addresses
	}
	own := ownGuest(t)
	for name, spec := range map[string]cluster.GuestSpec{"built": guest(t), "own": own} {
		t.Run(name, func(t *testing.T) {
			h := hosts[0]
			spec.VNC = &cluster.VNC{Listen: h.Addr, PasswordFile: file}
			h.must(request{Op: "check", Spec: spec})
			h.must(request{Op: "start", Spec: spec})
			h.until("running", is(cluster.GuestRunning))
			login := func(h *host) {
				t.Helper()
				if _, err := h.do(request{Op: "vnc", Text: h.Addr + ":5900 s3cret-7"}); err != nil {
					t.Errorf("with the password: %v", err)
				}
				if _, err := h.do(request{Op: "vnc", Text: h.Addr + ":5900 s3cret-8"}); err == nil || !strings.Contains(err.Error(), "refused") {
					t.Errorf("with another password: %v", err)
				}
				if _, err := h.do(request{Op: "vnc", Text: "127.0.0.1:5900 s3cret-7"}); err == nil ||
					!strings.Contains(err.Error(), "connection refused") {
					t.Errorf("at another address: %v", err)
				}
			}
			login(h)
			def := h.must(request{Op: "xml"}).Text
			line := h.must(request{Op: "command-line"}).Text
			log, err := os.ReadFile(filepath.Join(h.Dir, "log/qemu", testName+".log"))
			if err != nil {
				t.Fatal(err)
			}
			for what, text := range map[string]string{"the domain": def, "the command line": line, "the log": string(log)} {
				if strings.Contains(text, "s3cret-7") || !strings.Contains(text, "vnc") {
					t.Errorf("%s has the password, or no console:\n%s", what, text)
				}
			}
			if def := h.must(request{Op: "xml", Number: int(golibvirt.DomainXMLSecure)}).Text; !strings.Contains(def, "s3cret-7") {
				t.Error("libvirt does not have the password")
			}
			h.must(request{Op: "migrate", Text: hosts[1].Addr})
			hosts[1].until("arrived", is(cluster.GuestArrived))
			hosts[1].must(request{Op: "resume"})
			login(hosts[1])
			hosts[1].must(request{Op: "kill"})
		})
	}
}

func TestConsolesPassword(t *testing.T) {
	for text, want := range map[string]string{"123456789": "want at most 8", "\n": "is empty", "a\tb": "printable"} {
		spec := fullSpec()
		file := filepath.Join(t.TempDir(), "vnc")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		spec.VNC = &cluster.VNC{Listen: "192.0.2.1", PasswordFile: file}
		if _, err := domainXML(spec, formatRaw); err == nil || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), "VNC.Credential") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
