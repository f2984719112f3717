package faults

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"golang.org/x/sys/unix"
	"golang.org/x/text/encoding/simplifiedchinese"
)

// levels writes what was found as LEVEL TEXT, a line each.
func levels(hits []Hit) string {
	var b strings.Builder
	for _, h := range hits {
		b.WriteString(string(h.Level) + " " + h.Text + "\n")
	}
	return b.String()
}

func TestReadFindsMarksAndKnownFaults(t *testing.T) {
	for said, want := range map[string]string{
		"[FAIL] ocfs2 pool is read-only":              "fail [FAIL] ocfs2 pool is read-only\n",
		"[ -FAIL- ] Host(192.168.6.70) post-check...": "fail [ -FAIL- ] Host(192.168.6.70) post-check...\n",
		"[Failed] x":                                   "fail [Failed] x\n",
		"[ fail ] x\r\n[WARN] y\r\n":                   "fail [ fail ] x\nwarn [WARN] y\n",
		"50 %\r[FAIL] x\r100 %":                        "fail [FAIL] x\n",
		"[失败] 存储池":                                     "fail [失败] 存储池\n",
		"【失败】存储池":                                      "fail 【失败】存储池\n",
		"[\x1b[31mFAIL\x1b[0m] x":                      "fail [FAIL] x\n",
		strings.Repeat("x", 2*MaxLine) + "[FAIL] late": "fail [FAIL] late\n",
		"[WARN] w\n[FAIL] f\n[WARN] w\n":               "fail [FAIL] f\nwarn [WARN] w\n",
		"Host(192.168.6.70) post-check... Failed.":     "fail Host(192.168.6.70) post-check... Failed.\n",
		"[FAIL] The kernel of system has been upgraded. Please reboot": "fail [FAIL] The kernel of " +
			"system has been upgraded. Please reboot\n",
		"[WARN] The kernel of system has been upgraded. Please reboot": "info [WARN] The kernel of " +
			"system has been upgraded. Please reboot\n",
		"The CVK(a) have single path ocfs2 pools: [x ], please remove them,": "warn The CVK(a) have single " +
			"path ocfs2 pools: [x ], please remove them,\n",
		"The CVK(a) have single path x pools\nThe CVK(b) have single path x pools": "warn The CVK(a) have single " +
			"path x pools\nwarn The CVK(b) have single path x pools\n",
		"stateful failover, 0 FAILURES, fail, try again, [FAILOVER]": "",
		"[ -OK- ] Host(192.168.6.70) post-check... Done. 0 failed":   "",
	} {
		if got := levels(catalogue(t).Read(Source{}, []byte(said))); got != want {
			t.Errorf("%.80q: got\n%swant\n%s", said, got, want)
		}
	}
	gbk, err := simplifiedchinese.GBK.NewEncoder().String("[失败] 存储池\n[FAIL] x")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := levels(catalogue(t).Read(Source{}, []byte(gbk))), "fail [失败] 存储池\nfail [FAIL] x\n"; got != want {
		t.Errorf("GBK: %s", got)
	}
	var many strings.Builder
	for i := range 100 {
		many.WriteString("[WARN] " + strings.Repeat("w", i+1) + "\n")
	}
	if hits := catalogue(t).Read(Source{}, []byte(many.String()+"[FAIL] last")); len(hits) != MaxHits ||
		hits[0].Text != "[FAIL] last" || !strings.HasSuffix(hits[MaxHits-1].Text, "(and 81 more lines)") {
		t.Errorf("%d hits: %s", len(hits), levels(hits))
	}
}

func wideBytes(s string, order binary.AppendByteOrder, mark bool) []byte {
	var out []byte
	if mark {
		out = order.AppendUint16(out, 0xFEFF)
	}
	for _, u := range utf16.Encode([]rune(s)) {
		out = order.AppendUint16(out, u)
	}
	return out
}

const report = "CAS post-check report\r\n[ -OK- ] kernel\r\n[WARN] time differs by 3 s\r\n检查结果: 失败\r\nShared pool p1 " +
	"... FAILED\r\nfailed items: 0\r\n0 checks failed\r\n无失败\r\n"

const reported = "fail 检查结果: 失败\nfail Shared pool p1 ... FAILED\nwarn [WARN] time differs by 3 s\n"

func TestReportsOfAllEncodings(t *testing.T) {
	gbk, err := simplifiedchinese.GBK.NewEncoder().Bytes([]byte(report))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"UTF-8": []byte(report), "UTF-8 with mark": []byte("\uFEFF" + report), "GBK": gbk,
		"UTF-16LE": wideBytes(report, binary.LittleEndian, true), "UTF-16BE": wideBytes(report, binary.BigEndian, true),
		"UTF-16LE without mark": wideBytes(report, binary.LittleEndian, false),
		"UTF-16BE without mark": wideBytes(report, binary.BigEndian, false),
	} {
		file := filepath.Join(t.TempDir(), "r.txt")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		hits, err := catalogue(t).Report(file, time.Now().Add(-time.Minute))
		if err != nil || levels(hits) != reported || hits[0].File != file {
			t.Errorf("%s: %v\n%s", name, err, levels(hits))
		}
	}
}

func TestReportsThatCanNotBeRead(t *testing.T) {
	dir := t.TempDir()
	for want, make := range map[string]func(file string) error{
		"no such file":               func(string) error { return nil },
		"is empty":                   func(f string) error { return os.WriteFile(f, []byte("\r\n \n"), 0o600) },
		"is no text: want":           func(f string) error { return os.WriteFile(f, []byte("ok\xFF\xFFx\xFF"), 0o600) },
		"it has null bytes":          func(f string) error { return os.WriteFile(f, []byte("[ -OK- ] a\x00\x00b"), 0o600) },
		"is UTF-16 that was cut off": func(f string) error { return os.WriteFile(f, []byte("\xFF\xFEa\x00b"), 0o600) },
		"before the program began": func(f string) error {
			return errors.Join(os.WriteFile(f, []byte(report), 0o600), os.Chtimes(f, time.Time{}, time.Now().Add(-time.Hour)))
		},
		"is no regular file":            func(f string) error { return unix.Mkfifo(f, 0o600) },
		"is no regular file ":           func(f string) error { return os.Mkdir(f, 0o700) },
		"and at most 16777216 are read": func(f string) error { return errors.Join(os.WriteFile(f, nil, 0o600), os.Truncate(f, maxReport+1)) },
	} {
		file := filepath.Join(dir, strings.ReplaceAll(want, "/", "_"))
		if err := make(file); err != nil {
			t.Fatal(err)
		}
		hits, err := catalogue(t).Report(file, time.Now().Add(-time.Minute))
		if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) || !strings.Contains(err.Error(), file) || len(hits) > 0 {
			t.Errorf("want %q, got %v, %s", want, err, levels(hits))
		}
	}
}

func TestReportsThatAreAnnounced(t *testing.T) {
	const line = "[WARN] Please see the post-check report for more detailed results:\n"
	for said, want := range map[string]string{
		line + "/var/log/upgrade/postcheck-report_20180326103448.txt":                "/var/log/upgrade/postcheck-report_20180326103448.txt false",
		line + "\t'/x/postcheck-report_1.txt'.\nsee /x/postcheck-report_1.txt again": "/x/postcheck-report_1.txt false",
		line + "postcheck-report_1.txt":                                              " true",
		line:                                                                         " true",
		"all done":                                                                   " false",
	} {
		files, unnamed := catalogue(t).Reports(Source{}, []byte(said))
		if got := strings.Join(files, " "); got+map[bool]string{true: " true", false: " false"}[unnamed] != want {
			t.Errorf("%q: %q %v", said, files, unnamed)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(report))
	f.Add(wideBytes(report, binary.LittleEndian, false))
	c := catalogue(f)
	f.Fuzz(func(t *testing.T, said []byte) {
		for _, h := range c.Read(Source{}, said) {
			if h.Line < 1 || len(h.Text) > maxShown || strings.ContainsAny(h.Text, "\r\n\x1b") || len(h.Causes) == 0 {
				t.Errorf("%+v", h)
			}
		}
		if text, err := decode(said); err == nil {
			c.read(Source{}, text, true)
		}
	})
}
