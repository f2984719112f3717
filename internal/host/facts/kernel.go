package facts

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/inventory/fact"
)

// kernel tells the release that runs, and the one that the boot loader would
// start: by grub's configuration, else the newest in /boot. Without either, there
// is no next one.
func (g *Gatherer) kernel() (fact.Kernel, error) {
	b, err := read(g.file("proc/sys/kernel/osrelease"))
	if err != nil {
		return fact.Kernel{}, fmt.Errorf("read which kernel runs: %w", err)
	}
	k := fact.Kernel{Running: strings.TrimSpace(string(b))}
	for _, dir := range []string{"boot/grub", "boot/grub2"} {
		cfg, err := read(g.file(dir + "/grub.cfg"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return k, fmt.Errorf("read what grub would start: %w", err)
		}
		env, err := read(g.file(dir + "/grubenv"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return k, fmt.Errorf("read what grub would start: %w", err)
		}
		if k.Next = grubNext(cfg, env); k.Next != "" {
			k.By = "grub"
			return k, nil
		}
		// Red Hat's grub keeps its entries in files of their own.
		if k.Next = g.loaderEntry(grubEnv(env)); k.Next != "" {
			k.By = "grub"
			return k, nil
		}
	}
	k.Next, err = g.newestKernel()
	if k.Next != "" {
		k.By = "boot"
	}
	return k, err
}

// loaderEntry returns the release of the saved entry in /boot/loader/entries.
func (g *Gatherer) loaderEntry(saved map[string]string) string {
	name := saved["saved_entry"]
	if name == "" || name != path.Base(name) {
		return ""
	}
	b, err := read(g.file("boot/loader/entries/" + name + ".conf"))
	if err != nil {
		return "" // the newest kernel is taken then
	}
	for line := range strings.Lines(string(b)) {
		if w := strings.Fields(line); len(w) > 1 && w[0] == "linux" {
			return release(w[1])
		}
	}
	return ""
}

// newestKernel returns the newest release that has an image in /boot.
func (g *Gatherer) newestKernel() (string, error) {
	entries, err := os.ReadDir(g.file("boot"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("look for kernels: %w", err)
	}
	last := ""
	for _, e := range entries {
		if r := release(e.Name()); r != "" && (last == "" || compareReleases(r, last) > 0) {
			last = r
		}
	}
	return last, nil
}

// release returns the release of a kernel's file name, "" when it is none that is
// started by itself.
func release(file string) string {
	name, ok := strings.CutPrefix(path.Base(file), "vmlinuz-")
	if !ok || strings.Contains(name, "rescue") || strings.HasSuffix(name, ".old") || strings.HasSuffix(name, ".bak") {
		return ""
	}
	return name
}

// compareReleases compares numbers as numbers and all else by bytes.
func compareReleases(a, b string) int {
	for a != "" && b != "" {
		x, restA := chunk(a)
		y, restB := chunk(b)
		nx, errX := strconv.ParseUint(x, 10, 64)
		ny, errY := strconv.ParseUint(y, 10, 64)
		switch {
		case errX == nil && errY == nil && nx != ny:
			if nx < ny {
				return -1
			}
			return 1
		case (errX != nil || errY != nil) && x != y:
			return strings.Compare(x, y)
		}
		a, b = restA, restB
	}
	return strings.Compare(a, b)
}

// chunk cuts leading digits off, or leading characters that are none.
func chunk(s string) (head, rest string) {
	digit := func(i int) bool { return s[i] >= '0' && s[i] <= '9' }
	i := 1
	for i < len(s) && digit(i) == digit(0) {
		i++
	}
	return s[:i], s[i:]
}

// maxMenus bounds how deep menus and other braces of grub.cfg are nested.
const maxMenus = 16

// entry is a menu entry of grub, or a submenu.
type entry struct {
	title, id string
	kernel    string
	sub       bool
	in        int // index of the submenu, -1: at the top
}

// grubNext returns the release that grub starts by default, "" when that can not be
// told: an entry that is not in the file, or a default that is computed otherwise.
func grubNext(cfg, env []byte) string {
	entries, set := parseGrub(cfg)
	saved := grubEnv(env)
	want := set
	switch {
	case saved["next_entry"] != "":
		want = saved["next_entry"]
	case set == "${saved_entry}" || set == "$saved_entry":
		want = saved["saved_entry"]
	case strings.Contains(set, "$"):
		return ""
	}
	if want == "" {
		want = "0"
	}
	at := -1
	for i, part := range strings.SplitN(want, ">", maxMenus) {
		if i > 0 && at < 0 {
			return ""
		}
		if at = pick(entries, at, part); at < 0 {
			return ""
		}
	}
	if entries[at].sub {
		at = pick(entries, at, "0")
	}
	if at < 0 {
		return ""
	}
	return release(entries[at].kernel)
}

// pick finds an entry of a submenu (-1: of the top) by its index, id or title.
func pick(entries []entry, in int, want string) int {
	n, err := strconv.Atoi(want)
	for i, e := range entries {
		switch {
		case e.in != in:
		case err == nil && n == 0, err != nil && (e.id == want || e.title == want):
			return i
		default:
			n--
		}
	}
	return -1
}

// parseGrub reads the entries of grub.cfg and the last default that is set outside
// of conditions on next_entry.
func parseGrub(cfg []byte) (entries []entry, set string) {
	s := bufio.NewScanner(bytes.NewReader(cfg))
	s.Buffer(nil, maxFile+1)
	open := []int{} // menus that are open, and -2 for other braces
	menu := func() int {
		for _, o := range slices.Backward(open) {
			if o >= 0 {
				return o
			}
		}
		return -1
	}
	for s.Scan() {
		words := grubWords(s.Text())
		if len(words) == 0 {
			continue
		}
		switch {
		case len(open) > maxMenus:
			return nil, "" // it is no file of grub's
		case (words[0] == "menuentry" || words[0] == "submenu") && len(words) > 1:
			e := entry{title: words[1], sub: words[0] == "submenu", in: menu()}
			for i, w := range words[:len(words)-1] {
				if w == "$menuentry_id_option" || w == "--id" {
					e.id = words[i+1]
				}
			}
			entries = append(entries, e)
			open = append(open, len(entries)-1)
		case words[len(words)-1] == "{":
			open = append(open, -2)
		case words[0] == "}":
			if len(open) > 0 {
				open = open[:len(open)-1]
			}
		case strings.HasPrefix(words[0], "linux") && len(words) > 1:
			if m := menu(); m >= 0 && !entries[m].sub && entries[m].kernel == "" {
				entries[m].kernel = words[1]
			}
		case words[0] == "set" && len(words) > 1 && strings.HasPrefix(words[1], "default="):
			if v := strings.TrimPrefix(words[1], "default="); v != "${next_entry}" {
				set = v
			}
		}
	}
	return entries, set
}

// grubWords splits a line into words, as grub's shell does: quotes are taken off.
func grubWords(line string) []string {
	var words []string
	var w strings.Builder
	in, quote := false, byte(0)
	end := func() {
		if in {
			words = append(words, w.String())
		}
		w.Reset()
		in = false
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == 0 && (c == ' ' || c == '\t' || c == ';'):
			end()
		case quote == 0 && c == '#' && !in:
			return words
		case quote == 0 && (c == '"' || c == '\''):
			quote, in = c, true
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'' && i+1 < len(line):
			i++
			w.WriteByte(line[i])
			in = true
		default:
			w.WriteByte(c)
			in = true
		}
	}
	end()
	return words
}

// grubEnv reads grub's environment block.
func grubEnv(b []byte) map[string]string {
	v := map[string]string{}
	for line := range strings.Lines(string(b)) {
		name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), "=")
		if ok && !strings.HasPrefix(name, "#") {
			v[name] = value
		}
	}
	return v
}
