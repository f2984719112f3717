package domainxml

import (
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Ours is what a domain gets that Holdfast starts.
type Ours struct {
	Name, UUID string
	OnCrash    string // libvirt's word
	Metadata   string // an element whose prefix is declared in it as MetadataNS
	MetadataNS string
	Token      string // OEM string of SMBIOS that begins with TokenPrefix
	TokenPrefix,
	NVRAM string // where the variables of UEFI lie, unless the domain says
	Seed   string // path of the seed's ISO, "" for none
	Lease  *Lease // that it must hold to run
	Screen string // an element <graphics>, "" for none
}

// Lease is a lock of the lock manager.
type Lease struct{ Lockspace, Key, Target string }

// seedAlias is how the seed's disk is known again.
const seedAlias = "ua-holdfast-seed"

// Complete returns the domain's text with ours in it, in place of what was there of it. The domain
// must have passed Check. What Complete has returned it returns again.
func (d *Domain) Complete(o Ours) (string, error) {
	e := &editor{text: d.text}
	for _, name := range []string{"os", "devices"} {
		if d.root.first(name) == nil {
			return "", fmt.Errorf("/domain/%s is missing", name)
		}
	}
	if d.root.attr("id") != "" { // of a domain that ran when it was written
		e.retag(d.root, "id", "")
	}
	top := e.block(d.root)
	for _, f := range []struct{ name, text string }{
		{"name", o.Name}, {"uuid", o.UUID}, {"on_poweroff", "destroy"}, {"on_reboot", "restart"}, {"on_crash", o.OnCrash}, {"on_lockfailure", ""},
	} {
		for _, n := range d.root.all(f.name) {
			e.remove(n)
		}
		if f.text != "" {
			top.add(element(f.name, f.text))
		}
	}
	d.metadata(e, top, o)
	d.sysinfo(e, top, o)
	d.firmware(e, o)
	d.devices(e, o)
	return e.done()
}

func (d *Domain) metadata(e *editor, top *block, o Ours) {
	m := d.root.first("metadata")
	if m == nil {
		top.add("<metadata>" + o.Metadata + "</metadata>")
		return
	}
	for _, n := range m.kids {
		if prefix, _, ok := strings.Cut(n.name, ":"); ok && n.attr("xmlns:"+prefix) == o.MetadataNS {
			e.remove(n)
		}
	}
	e.block(m).raw(o.Metadata)
}

// sysinfo puts the token among the OEM strings. A UUID there must be the domain's:
// without one libvirt puts that in.
func (d *Domain) sysinfo(e *editor, top *block, o Ours) {
	token := element("entry", o.Token)
	var info *node
	for _, n := range d.root.all("sysinfo") {
		if n.attr("type") == "smbios" {
			info = n
		}
	}
	for _, entry := range info.first("system").all("entry") {
		if entry.attr("name") == "uuid" {
			e.remove(entry)
		}
	}
	strs := info.first("oemStrings")
	for _, entry := range strs.all("entry") {
		if strings.HasPrefix(entry.text, o.TokenPrefix) {
			e.remove(entry)
		}
	}
	switch {
	case info == nil:
		top.add(`<sysinfo type="smbios"><oemStrings>` + token + `</oemStrings></sysinfo>`)
	case strs == nil:
		e.block(info).raw("<oemStrings>" + token + "</oemStrings>")
	default:
		e.block(strs).raw(token)
	}
	if os := d.root.first("os"); os.first("smbios") == nil {
		e.block(os).raw(`<smbios mode="sysinfo"/>`)
	}
}

// firmware says where the variables of UEFI are.
func (d *Domain) firmware(e *editor, o Ours) {
	os := d.root.first("os")
	if !needsNVRAM(os) {
		return
	}
	switch n := os.first("nvram"); {
	case n == nil:
		e.block(os).raw(element("nvram", o.NVRAM))
	case n.text == "" && n.first("source") == nil:
		e.block(n).raw(escape(o.NVRAM))
	}
}

func needsNVRAM(os *node) bool {
	l := os.first("loader")
	return (os.attr("firmware") == "efi" || l.attr("type") == "pflash") && l.attr("stateless") != "yes"
}

func (d *Domain) devices(e *editor, o Ours) {
	devs := d.root.first("devices")
	b := e.block(devs)
	for _, n := range devs.all("lease") {
		e.remove(n)
	}
	if l := o.Lease; l != nil {
		b.add("<lease>" + element("lockspace", l.Lockspace) + element("key", l.Key) + `<target path="` + escape(l.Target) + `"/></lease>`)
	}
	taken := map[string]bool{}
	bus := ""
	for _, n := range devs.all("disk") {
		if n.first("alias").attr("name") == seedAlias {
			e.remove(n)
			continue
		}
		t := n.first("target")
		taken[t.attr("dev")] = true
		if bus == "" && device(n) == "disk" {
			bus = busOf(t)
		}
	}
	if o.Seed != "" {
		b.add(seedDisk(o.Seed, bus, taken))
	}
	if o.Screen != "" {
		for _, n := range devs.all("graphics") {
			if n.attr("type") == "vnc" {
				e.remove(n)
			}
		}
		b.add(o.Screen)
	}
}

// device is what a disk is to the guest.
func device(disk *node) string {
	if d := disk.attr("device"); d != "" {
		return d
	}
	return "disk"
}

// busOf is the bus of a disk's target; libvirt guesses it by the name when it is
// not said.
func busOf(target *node) string {
	if b := target.attr("bus"); b != "" {
		return b
	}
	for prefix, bus := range map[string]string{"hd": "ide", "sd": "scsi", "fd": "fdc"} {
		if strings.HasPrefix(target.attr("dev"), prefix) {
			return bus
		}
	}
	return "virtio"
}

// seedDisk is on the bus of the guest's first disk, which its system can read for
// sure.
func seedDisk(path, bus string, taken map[string]bool) string {
	device, prefix := "cdrom", "sd"
	switch bus {
	case "sata", "scsi", "usb":
	case "ide":
		prefix = "hd"
	default: // it has no CD-ROM
		device, prefix, bus = "disk", "vd", "virtio"
	}
	dev := ""
	for c := 'a'; c <= 'z'; c++ {
		if dev = prefix + string(c); !taken[dev] {
			break
		}
	}
	return `<disk type="file" device="` + device + `"><driver name="qemu" type="raw" cache="none"/><source file="` + escape(path) +
		`"/><target dev="` + dev + `" bus="` + bus + `"/><readonly/><alias name="` + seedAlias + `"/></disk>`
}

func element(name, text string) string { return "<" + name + ">" + escape(text) + "</" + name + ">" }

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}

// editor collects changes of places in a text.
type editor struct {
	text   string
	edits  []edit
	blocks []*block
}

type edit struct {
	from, to int
	text     string
}

// remove takes an element out, with the white space before it.
func (e *editor) remove(n *node) {
	from := n.start
	for from > 0 && strings.IndexByte(" \t\r\n", e.text[from-1]) >= 0 {
		from--
	}
	e.edits = append(e.edits, edit{from, n.end, ""})
}

// retag writes a start tag with another value of an attribute, or without it if that
// is "".
func (e *editor) retag(n *node, attr, value string) {
	tag := "<" + n.name
	for _, a := range n.attrs {
		v := a.Value
		if full(a.Name) == attr {
			if v = value; v == "" {
				continue
			}
		}
		tag += " " + full(a.Name) + `="` + escape(v) + `"`
	}
	if e.text[n.open-2] == '/' {
		tag += "/"
	}
	e.edits = append(e.edits, edit{n.start, n.open, tag + ">"})
}

// block is what comes right behind an element's start tag.
type block struct {
	of   *node
	text string
}

func (e *editor) block(n *node) *block {
	for _, b := range e.blocks {
		if b.of == n {
			return b
		}
	}
	b := &block{of: n}
	e.blocks = append(e.blocks, b)
	return b
}

func (b *block) raw(text string) { b.text += text }
func (b *block) add(text string) { b.raw("\n" + strings.Repeat("  ", b.of.depth()) + text) }

func (n *node) depth() int {
	if n == nil {
		return 0
	}
	return 1 + n.up.depth()
}

// done returns the text with all changes.
func (e *editor) done() (string, error) {
	for _, b := range e.blocks {
		switch n := b.of; {
		case b.text == "":
		case n.close == n.open && n.end == n.open: // <a/>
			slash := strings.LastIndexByte(e.text[:n.open], '/')
			e.edits = append(e.edits, edit{slash, n.open, ">" + b.text + "</" + n.name + ">"})
		default:
			e.edits = append(e.edits, edit{n.open, n.open, b.text})
		}
	}
	slices.SortStableFunc(e.edits, func(a, b edit) int {
		if a.from != b.from {
			return a.from - b.from
		}
		return a.to - b.to
	})
	var out strings.Builder
	at := 0
	for _, c := range e.edits {
		if c.from < at { // white space that an element before has taken along, or one within another
			c.from = at
		}
		if c.to < at {
			return "", errors.New("an element of ours stands within another one")
		}
		out.WriteString(e.text[at:c.from])
		out.WriteString(c.text)
		at = c.to
	}
	out.WriteString(e.text[at:])
	return out.String(), nil
}
