package lang

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "give zh.json an empty text for each message that it does not have, and remove what is no message")

// TestCatalogueIsComplete: every message has its translation, which takes the same values.
func TestCatalogueIsComplete(t *testing.T) {
	english := messages(t)
	if len(english) < 3000 {
		t.Fatalf("%d messages were found in the source: the search misses most", len(english))
	}
	texts := make(map[string]string)
	if err := json.Unmarshal(chinese, &texts); err != nil {
		t.Fatal(err)
	}
	if *update {
		now := make(map[string]string)
		for s := range english {
			now[s] = texts[s]
		}
		text, err := encode(now)
		if err == nil {
			err = os.WriteFile("zh.json", text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		texts = now
	}
	for _, s := range slices.Sorted(maps.Keys(english)) {
		to, ok := texts[s]
		switch {
		case !ok || to == "":
			t.Errorf("no translation: %q", s)
		case !slices.Equal(holes(s), holes(to)):
			t.Errorf("%q has the values %q, its translation %q has %q", s, holes(s), to, holes(to))
		case to != s && !(hasHan(to) || strings.Contains(to, "（")):
			t.Errorf("%q: its translation %q has no Chinese; what stays as it is stands there as it is", s, to)
		}
	}
	for s := range texts {
		if !english[s] {
			t.Errorf("no message of the source: %q (remove it: go test ./internal/lib/lang -update)", s)
		}
	}
}

// encode writes the texts sorted, one a line.
func encode(texts map[string]string) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	err := enc.Encode(texts)
	return []byte(b.String()), err
}

// holes are the values that a text takes, sorted.
func holes(s string) []string {
	t := newTemplate("x "+s, "")
	if t == nil {
		return nil
	}
	if strings.Contains(s, "%[") {
		var out []string
		for _, m := range hole.FindAllStringSubmatch(s, -1) {
			if m[2] != "%" {
				out = append(out, m[1]+m[3])
			}
		}
		slices.Sort(out)
		return out
	}
	return slices.Sorted(slices.Values(t.holes))
}

// few is a catalogue for tests.
func few(t *testing.T) *Catalogue {
	t.Helper()
	c, err := parse([]byte(`{
		"HOST": "主机",
		"running": "运行中",
		"read %s: %w": "读取 %s: %w",
		"no such file or directory": "没有该文件或目录",
		"%d of %d hosts answer": "%[2]d 台主机中有 %[1]d 台应答",
		"host %q: want %s": "主机 %q: 应为 %s",
		"want %s": "应为 %s",
		"a name": "名称",
		"it has version {version}, not {want}": "其版本为 {version}，不是 {want}",
		"%5.1f %% done": "已完成 %5.1f %%",
		"the first line\nand the second": "第一行\n第二行",
		"the VM waits for %s": "虚拟机在等待 %s"
	}`))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestText(t *testing.T) {
	c := few(t)
	for in, want := range map[string]string{
		"":                        "",
		"HOST":                    "主机",
		"nothing of ours":         "nothing of ours",
		"read /etc/x: permission": "读取 /etc/x: permission",
		"read /a: read b1: no such file or directory":  "读取 /a: 读取 b1: 没有该文件或目录",
		"3 of 5 hosts answer":                          "5 台主机中有 3 台应答",
		`host "a name": want a name`:                   `主机 "a name": 应为名称`,          // what is quoted stays: it came from outside
		"host running: want running":                   "host running: want running", // a word may be a name, or a part of another message
		"it has version 3.1, not 3.2":                  "其版本为 3.1，不是 3.2",
		" 12.5 % done":                                 " 已完成 12.5 %",
		"the first line\nand the second":               "第一行\n第二行",
		"  want a name\nrunning\n":                     "  应为名称\n运行中\n",
		"\r\x1b[31mHOST\x1b[0m running":                "\r\x1b[31m主机\x1b[0m 运行中",
		"3 of 5 hosts answer; the VM waits for a name": "5 台主机中有 3 台应答; 虚拟机在等待名称",
		"x: y; want a.b, c":                            "x: y; 应为 a.b, c",
		// Names in a list stay as they are typed, and one thing joins them.
		`host "x": want running, HOST, h3`:      `主机 "x": 应为 running、HOST、h3`,
		`host "x": want running or HOST or h3`:  `主机 "x": 应为 running、HOST 或 h3`,
		"the VM waits for running, h2":          "虚拟机在等待 running、h2",
		"HOST: h1, h2, h3":                      "主机: h1、h2、h3",
		"HOST: h1, the VM waits for a name, h3": "主机: h1, 虚拟机在等待名称, h3",
	} {
		if got := c.Text(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
		if got := c.Text(in); got != want {
			t.Errorf("%q, once more: got %q, want %q", in, got, want)
		}
	}
	var none *Catalogue
	if got := none.Text("HOST"); got != "HOST" {
		t.Errorf("without a catalogue: %q", got)
	}
}

func TestFor(t *testing.T) {
	for _, name := range []string{"", "en"} {
		if c, err := For(name); c != nil || err != nil {
			t.Errorf("%q: %v, %v", name, c, err)
		}
	}
	if _, err := For("de"); err == nil || err.Error() != `HOLDFAST_LANG: value "de": want en or zh` {
		t.Errorf("de: %v", err)
	}
	if c, err := For("zh"); err != nil || c.Text("HOST") != "主机" {
		t.Errorf("zh: %v", err)
	}
}

// FuzzText: no text breaks it, and names of other languages stay.
func FuzzText(f *testing.F) {
	f.Add("read %s: want a.b; 3 of 5 hosts answer")
	f.Add("\x1b[31m\r\n: ; , .  ")
	f.Fuzz(func(t *testing.T, s string) {
		c := few(t)
		if a, b := c.Text(s), c.Text(s); a != b {
			t.Errorf("%q: %q, then %q", s, a, b)
		}
	})
}
