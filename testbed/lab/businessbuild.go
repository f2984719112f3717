package lab

import (
	"bytes"
	"compress/gzip"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

//go:embed business
var businessRecipe embed.FS // read only

// businessInitrd is the initrd of the business guests, a file in SharedDir.
const businessInitrd = "business.cpio"

// businessModules are what a business guest loads, in this order.
func businessModules() []string {
	return []string{
		"virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
		"virtio_console", "virtio_blk", "failover", "net_failover", "virtio_net",
	}
}

// businessFiles are the programs that a business guest takes from the
// management guest's initrd as they are: busybox and its names.
func businessFiles() []string {
	all := []string{"dev/console", "bin/busybox"}
	for _, name := range []string{
		"cat", "dd", "head", "hostname", "httpd", "insmod", "ip", "kill", "mount", "poweroff", "rm", "sed", "sh",
		"sleep", "sync", "tr",
	} {
		all = append(all, "bin/"+name)
	}
	return append(all, "www/cgi-bin/dirty", "www/cgi-bin/halt", "www/cgi-bin/crash")
}

// buildBusiness makes the business guests' initrd of the management guest's. It
// is small and not compressed, since emulated processors unpack slowly: a guest
// boots with 2 s of CPU time instead of 2.5 s, and takes less than 2 % of a
// core when it is left alone.
func buildBusiness(from, to string) error {
	raw, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("build business guest: %w", err)
	}
	entries, err := readInitrd(raw)
	if err != nil {
		return fmt.Errorf("build business guest from %s: %w", from, err)
	}
	var image bytes.Buffer
	if err := writeBusiness(newCPIO(&image), entries); err != nil {
		return fmt.Errorf("build business guest: %w", err)
	}
	tmp := to + ".tmp"
	if err := os.WriteFile(tmp, image.Bytes(), 0o644); err != nil {
		return fmt.Errorf("build business guest: %w", err)
	}
	if err := os.Rename(tmp, to); err != nil {
		return fmt.Errorf("build business guest: %w", err)
	}
	return nil
}

func writeBusiness(c *cpioWriter, entries []cpioEntry) error {
	for _, d := range []string{"proc", "sys", "dev", "run", "tmp"} {
		c.dir(d)
	}
	c.node("dev/console", 5, 1)
	wanted := businessFiles()
	for _, m := range businessModules() {
		wanted = append(wanted, "modules/"+m+".ko")
	}
	for _, name := range wanted {
		i := slices.IndexFunc(entries, func(e cpioEntry) bool { return e.name == name })
		switch {
		case i < 0:
			return fmt.Errorf("the management guest's initrd has no %s", name)
		case entries[i].isLink():
			c.link(name, string(entries[i].body))
		case entries[i].isFile():
			c.file(name, entries[i].mode&0o777, entries[i].body)
		}
	}
	c.file("modules/order", 0o644, []byte(strings.Join(businessModules(), "\n")+"\n"))
	for to, from := range map[string]string{"init": "init.sh", "www/cgi-bin/status": "status"} {
		body, err := businessRecipe.ReadFile("business/" + from)
		if err != nil {
			return err
		}
		c.file(to, 0o755, body)
	}
	return c.close()
}

// cpioEntry is one file of an archive that cpioWriter has written.
type cpioEntry struct {
	name string
	mode uint32
	body []byte // of a link: its target
}

func (e cpioEntry) isFile() bool { return e.mode&0o170000 == 0o100000 }

func (e cpioEntry) isLink() bool { return e.mode&0o170000 == 0o120000 }

const cpioHeader = 110 // bytes: the magic and 13 fields of 8

// readInitrd reads an archive of cpioWriter, compressed with gzip.
func readInitrd(raw []byte) ([]cpioEntry, error) {
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("read initrd: %w", err)
	}
	b, err := io.ReadAll(z)
	if err = errors.Join(err, z.Close()); err != nil {
		return nil, fmt.Errorf("read initrd: %w", err)
	}
	var all []cpioEntry
	for at := 0; ; {
		e, next, err := readEntry(b, at)
		if err != nil {
			return nil, fmt.Errorf("read initrd: %w", err)
		}
		if e.name == "TRAILER!!!" {
			return all, nil
		}
		all, at = append(all, e), next
	}
}

// readEntry reads the entry at an offset, and says where the next one is.
func readEntry(b []byte, at int) (cpioEntry, int, error) {
	if at+cpioHeader > len(b) || string(b[at:at+6]) != "070701" {
		return cpioEntry{}, 0, fmt.Errorf("no header at byte %d of %d", at, len(b))
	}
	field := func(n int) (int, error) {
		v, err := strconv.ParseUint(string(b[at+6+8*n:at+14+8*n]), 16, 31)
		return int(v), err
	}
	mode, err1 := field(1)
	size, err2 := field(6)
	nameLen, err3 := field(11)
	if err := errors.Join(err1, err2, err3); err != nil {
		return cpioEntry{}, 0, fmt.Errorf("header at byte %d: %w", at, err)
	}
	name := at + cpioHeader
	body := padded(name + nameLen)
	if nameLen < 1 || body+size > len(b) {
		return cpioEntry{}, 0, fmt.Errorf("the entry at byte %d goes beyond the end", at)
	}
	e := cpioEntry{name: string(b[name : name+nameLen-1]), mode: uint32(mode), body: b[body : body+size]}
	return e, padded(body + size), nil
}

// padded rounds an offset up to four bytes.
func padded(n int) int { return (n + 3) &^ 3 }
