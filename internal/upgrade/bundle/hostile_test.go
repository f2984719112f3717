package bundle

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"holdfast/internal/inventory/manifest"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// hostile are bundles that must be refused, each with its own reason. All are
// unsigned, so that the signature does not refuse them first.
func hostile(t testing.TB) map[string]struct {
	data []byte
	want string
} {
	text := func(files ...manifest.File) entry { return file(manifest.FileManifest, minimal(files...)) }
	good, a := file("a", "content"), fileOf("a", "content")
	// named is a bundle whose manifest lists a, with a member under another name.
	named := func(name string) []byte { return archive(t, text(a), file(name, "content")) }
	special := func(h tar.Header) []byte {
		h.Name, h.Mode, h.ModTime = "a", 0o644, epoch()
		return archive(t, text(a), entry{Header: h})
	}
	raw := archive(t, text(a), good)
	listed := func(path string) []byte { return archive(t, text(fileOf(path, "content")), good) }
	zeros := strings.Repeat("\x00", 8<<20)
	type bad = struct {
		data []byte
		want string
	}
	return map[string]bad{
		"parent":         {named("../a"), "../a: the name leads out"},
		"deep parent":    {named("x/../../a"), "x/../../a: the name leads out"},
		"absolute":       {named("/etc/a"), "/etc/a: the name is absolute"},
		"dot":            {named("./a"), "./a: the name has an empty part or ."},
		"double slash":   {named("x//a"), "x//a: the name has an empty part or ."},
		"backslash":      {named(`..\a`), "the name has a backslash"},
		"control":        {named("a\x1b[2J"), "characters that can not be printed"},
		"newline":        {named("a\nb"), "characters that can not be printed"},
		"right to left":  {named("a\u202eexe.b"), "characters that can not be printed"},
		"bad utf-8":      {named("a\xff"), "the name is not UTF-8"},
		"not normal":     {named("e\u0301"), "the name is not in Unicode's normal form C"},
		"option":         {named("-rf"), "-rf: the name begins with -"},
		"empty name":     {emptyName(t, text(a)), "the name is empty"},
		"too long":       {named(strings.Repeat("xxxxxxxxxxxxxxxxxxxxxxxxx/", 45) + "a"), "more than 1024 bytes"},
		"too deep":       {named(strings.Repeat("x/", 64) + "a"), "more than 64 parts"},
		"long part":      {named(strings.Repeat("x", 256)), "more than 255 bytes"},
		"unlisted":       {named("b"), "b: the manifest does not list it"},
		"other case":     {named("A"), "A: the manifest does not list it"},
		"twice":          {archive(t, text(a), good, good), "a: it is there twice"},
		"manifest again": {archive(t, text(a), good, text(a)), "manifest.yaml: the manifest does not list it"},
		"signature later": {archive(t, text(a), good, file(manifest.FileSignature, "x")),
			"manifest.yaml.minisig: the manifest does not list it"},
		"missing":         {archive(t, text(a)), "a: the manifest lists it, but it is missing"},
		"manifest second": {archive(t, good, text(a)), "manifest.yaml: it must be the first member"},
		"symlink": {special(tar.Header{Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}),
			`a: it is a symbolic link to "/etc/passwd"`},
		"hard link":          {special(tar.Header{Typeflag: tar.TypeLink, Linkname: "manifest.yaml"}), `a: it is a hard link to "manifest.yaml"`},
		"device":             {special(tar.Header{Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 8}), "a: it is a device"},
		"block device":       {special(tar.Header{Typeflag: tar.TypeBlock, Devmajor: 8}), "a: it is a device"},
		"pipe":               {special(tar.Header{Typeflag: tar.TypeFifo}), "a: it is a pipe"},
		"directory":          {special(tar.Header{Typeflag: tar.TypeDir}), "a: it is a directory"},
		"odd type":           {special(tar.Header{Typeflag: 'Z'}), "a: it is of the unknown type"},
		"setuid":             {mode(t, text(a), 0o4755), "a: its mode is 4755, the manifest says 0644"},
		"executable":         {mode(t, text(a), 0o755), "a: its mode is 0755, the manifest says 0644"},
		"owner":              {owner(t, text(a)), "a: its tar header is not as bundle build writes it"},
		"pax record":         {pax(t, text(a), "SCHILY.xattr.security.capability", "x"), "the record \"SCHILY.xattr.security.capability\""},
		"pax global":         {paxGlobal(t, text(a), good), "it is a global header"},
		"sparse":             {pax(t, text(a), "GNU.sparse.realsize", "7"), "the record \"GNU.sparse.realsize\""},
		"size":               {archive(t, text(a), file("a", "content and more")), "a: it has 16 bytes, the manifest says 7"},
		"content":            {archive(t, text(a), file("a", "CONTENT")), "a: its content is not what the manifest says"},
		"padding":            {padding(raw), "a: there is data between its content and the next member"},
		"padding inside":     {padding2(t, text(a, fileOf("b", "")), good, file("b", "")), "b: its tar header is not as bundle build writes it"},
		"garbage":            {append(bytes.Clone(raw), "more"...), "there is more data after the end"},
		"zeros after":        {append(bytes.Clone(raw), make([]byte, 512)...), "there is more data after the end"},
		"second tar":         {append(bytes.Clone(raw), raw...), "there is more data after the end"},
		"garbage in zstd":    {packed(t, append(bytes.Clone(raw), "more"...), Zstd), "there is more data after the end"},
		"garbage after zstd": {append(packed(t, raw, Zstd), "more"...), "there is more data after the end"},
		"second frame":       {append(packed(t, raw, Zstd), packed(t, []byte("x"), Zstd)...), "there is more data after the end"},
		"skippable frame":    {append(packed(t, raw, Zstd), 0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 'x'), "there is more data after the end"},
		"garbage after gzip": {append(packed(t, raw, Gzip), "more"...), "there is more data after the end"},
		"second gzip":        {append(packed(t, raw, Gzip), packed(t, []byte("x"), Gzip)...), "there is more data after the end"},
		"bomb before":        {packed(t, []byte(zeros), Zstd), "it has no members"},
		"bomb in member":     {packed(t, bombMember(t, text(a), zeros), Zstd), "a: it has 8388608 bytes, the manifest says 7"},
		"bomb after":         {packed(t, append(bytes.Clone(raw), zeros...), Gzip), "there is more data after the end"},
		"bomb as manifest":   {packed(t, archive(t, file(manifest.FileManifest, zeros)), Zstd), "manifest.yaml: it has 8388608 bytes, want 1 to"},
		"bomb of headers":    {packed(t, manyHeaders(t), Gzip), "it unpacks to more data than it may"},
		"window":             {hugeWindow(t, raw), "its zstd frame needs a window of more than 8 MiB"},
		"too many files":     {tooManyFiles(t), "it has more than 50 files"},
		"too many bytes": {archive(t, file(manifest.FileManifest,
			strings.Replace(minimal(a), "size: 7", "size: 9223372036854775807", 1))), "its files have more than"},
		"negative size": {archive(t, file(manifest.FileManifest,
			strings.Replace(minimal(a), "size: 7", "size: -7", 1))), "want a size in bytes"},
		"empty manifest":    {archive(t, file(manifest.FileManifest, "")), "manifest.yaml: it has 0 bytes"},
		"yaml bomb":         {archive(t, file(manifest.FileManifest, yamlBomb())), "the manifest is wrong"},
		"yaml depth":        {archive(t, file(manifest.FileManifest, "name: "+strings.Repeat("[", 5000))), "the manifest is wrong"},
		"listed parent":     {listed("../a"), "the name leads out"},
		"listed absolute":   {listed("/a"), "the name is absolute"},
		"listed manifest":   {listed("Manifest.yaml"), "differs from \"manifest.yaml\""},
		"listed twice":      {archive(t, text(a, a), good), "want each file once"},
		"listed case":       {archive(t, text(a, fileOf("A", "")), good), "in more than upper and lower case"},
		"listed look-alike": {archive(t, text(fileOf("\ufb01", ""), fileOf("fi", "")), good), "can not be taken for"},
		"listed below file": {archive(t, text(a, fileOf("a/b", "")), good), "not below the file"},
		"empty":             {nil, "the file is empty"},
		"one byte":          {[]byte{0x28}, "it is truncated"},
		"no tar":            {[]byte(strings.Repeat("no tar at all ", 200)), "it is damaged: copy or download it again (archive/tar: "},
		"no members":        {archive(t), "it has no members"},
		"bzip2":             {[]byte("BZh91AY&SY"), "compressed with bzip2"},
		"xz":                {[]byte("\xfd7zXZ\x00\x00"), "compressed with xz"},
	}
}

func emptyName(t testing.TB, m entry) []byte {
	data := archive(t, m, file("a", "content"))
	h := bytes.LastIndex(data, append([]byte("a"), make([]byte, 99)...))
	return rename(data, h, "")
}

// rename writes another name into the header at off, with its checksum.
func rename(data []byte, off int, name string) []byte {
	h := data[off : off+block]
	copy(h[:100], append([]byte(name), make([]byte, 100-len(name))...))
	copy(h[148:156], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	for i, shift := 0, 15; i < 6; i, shift = i+1, shift-3 {
		h[148+i] = byte('0' + sum>>shift&7)
	}
	h[154], h[155] = 0, ' '
	return data
}

func mode(t testing.TB, m entry, bits int64) []byte {
	f := file("a", "content")
	f.Mode = bits
	return archive(t, m, f)
}

func owner(t testing.TB, m entry) []byte {
	f := file("a", "content")
	f.Uid, f.Uname = 1000, "someone"
	return archive(t, m, f)
}

// pax writes a bundle whose second member has an extended record. The library
// refuses to write some, so the key is put in by hand.
func pax(t testing.TB, m entry, key, value string) []byte {
	f := file("a", "content")
	f.Format, f.PAXRecords = tar.FormatPAX, map[string]string{"HOLDFAST." + strings.Repeat("x", len(key)-9): value}
	if len(key) < 10 {
		t.Fatalf("key %q is too short for this test", key)
	}
	return bytes.Replace(archive(t, m, f), []byte("HOLDFAST."+strings.Repeat("x", len(key)-9)), []byte(key), 1)
}

func paxGlobal(t testing.TB, m entry, f entry) []byte {
	g := entry{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"path": "b"}}}
	return archive(t, m, g, f)
}

// padding puts data where zeros follow the last content.
func padding(raw []byte) []byte {
	out := bytes.Clone(raw)
	out[bytes.LastIndex(out, []byte("content"))+20] = 'x'
	return out
}

func padding2(t testing.TB, entries ...entry) []byte { return padding(archive(t, entries...)) }

func bombMember(t testing.TB, m entry, text string) []byte { return archive(t, m, file("a", text)) }

// manyHeaders is a tar that has only extended headers, which a reader takes
// together.
func manyHeaders(t testing.TB) []byte {
	f := file("a", "")
	f.Format, f.PAXRecords = tar.FormatPAX, map[string]string{"HOLDFAST.x": strings.Repeat("x", 1000)}
	one := archive(t, f)[:2048-512]
	return bytes.Repeat(one, 5000)
}

func hugeWindow(t testing.TB, data []byte) []byte {
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithWindowSize(64<<20), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	// More than the encoder puts into a frame without a window.
	for _, part := range [][]byte{data, make([]byte, 1<<20)} {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tooManyFiles(t testing.TB) []byte {
	var files []manifest.File
	for i := range 51 {
		files = append(files, fileOf("f"+itoa(int64(i)), ""))
	}
	return archive(t, file(manifest.FileManifest, minimal(files...)))
}

func yamlBomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range 9 {
		n, m := itoa(int64(i)), itoa(int64(i+1))
		b.WriteString("a" + m + ": &a" + m + " [" + strings.Repeat("*a"+n+", ", 9) + "*a" + n + "]\n")
	}
	return b.String()
}

func TestHostileBundlesAreRefused(t *testing.T) {
	for name, c := range hostile(t) {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := verify(c.data, Options{AllowUnsigned: true, MaxFiles: 50})
			runtime.ReadMemStats(&after)
			if r := refusal(t, err).Error(); !strings.Contains(r, c.want) {
				t.Errorf("refused with %q, want %q", r, c.want)
			} else if strings.ContainsFunc(r, func(c rune) bool { return c < ' ' }) {
				t.Errorf("the reason has control characters: %q", r)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
				t.Errorf("it took %d MiB of memory to refuse it", used>>20)
			}
			unpackRefused(t, c.data)
		})
	}
}

// unpackRefused unpacks what is to be refused, and looks for anything left.
func unpackRefused(t *testing.T, data []byte) {
	t.Helper()
	top := t.TempDir()
	try.Must(t, os.Mkdir(filepath.Join(top, "in"), 0o755))
	_, err := Unpack(context.Background(), bytes.NewReader(data), filepath.Join(top, "in", "new"), Options{AllowUnsigned: true, MaxFiles: 50})
	refusal(t, err)
	if left := append(ls(t, top), ls(t, filepath.Join(top, "in"))...); len(left) != 1 {
		t.Errorf("left behind: %q", left)
	}
}

func TestTruncatedBundlesAreRefused(t *testing.T) {
	secret, public := testKey(t)
	for _, c := range []struct {
		c    Compression
		step int
	}{{None, 512}, {Zstd, 64}, {Gzip, 64}} {
		data := build(t, sampleFiles(), c.c, &secret)
		for n := 0; n < len(data); n += c.step {
			_, err := verify(data[:n], Options{Keys: []PublicKey{public}})
			if r := refusal(t, err); n > 0 && !strings.Contains(r.Error(), "truncated") {
				t.Errorf("%s: %d of %d bytes: %v", c.c, n, len(data), r)
			}
		}
	}
	data := build(t, sampleFiles(), None, &secret)
	cut := bytes.Index(data, []byte(`{"port": 5432}`)) + 5
	_, err := verify(data[:cut], Options{Keys: []PublicKey{public}})
	if got := refusal(t, err).Error(); got != "conf/db.json: it is truncated: copy or download it again" {
		t.Errorf("got %q", got)
	}
}

// TestFlippedBitsAreRefused flips bits in the file. What compression hides may be
// written in more than one way; then the tar inside must be the same. The one
// line that no signature covers is the untrusted comment.
func TestFlippedBitsAreRefused(t *testing.T) {
	need.Seconds(t)
	secret, public := testKey(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	want := masked(build(t, sampleFiles(), None, &secret))
	for _, c := range []Compression{None, Zstd, Gzip} {
		data := build(t, sampleFiles(), c, &secret)
		same := 0
		for range 200 {
			bad := bytes.Clone(data)
			at, bit := rnd.IntN(len(bad)), rnd.IntN(8)
			bad[at] ^= 1 << bit
			if _, err := verify(bad, Options{Keys: []PublicKey{public}}); err != nil {
				refusal(t, err)
				continue
			}
			same++
			if !bytes.Equal(masked(expandAll(t, bad)), want) {
				t.Errorf("%s: bit %d of byte %d of %d may be flipped", c, bit, at, len(bad))
			}
		}
		t.Logf("%s: %d bytes, 200 bits flipped, %d changed nothing that counts", c, len(data), same)
	}
}

// masked returns a tar without the text of the untrusted comment.
func masked(data []byte) []byte {
	const before = "untrusted comment: "
	data = bytes.Clone(data)
	i := bytes.Index(data, []byte(before))
	for i += len(before); i < len(data) && data[i] != '\n'; i++ {
		data[i] = 0
	}
	return data
}

// expandAll takes the compression off.
func expandAll(t *testing.T, data []byte) []byte {
	t.Helper()
	e, err := expand(bufio.NewReader(bytes.NewReader(data)))
	try.Must(t, err)
	defer e.close()
	out, err := io.ReadAll(e)
	try.Must(t, err)
	return out
}

// TestEveryByteOfATarCounts flips one bit in each byte.
func TestEveryByteOfATarCounts(t *testing.T) {
	need.Seconds(t)
	secret, public := testKey(t)
	files := map[string]string{
		"manifest.yaml": "name: m\nversion: \"1\"\nupgradeFrom:\n- {version: \"0\", modes: [offline]}\nmodules:\n- " +
			"name: m\n  files: [a, b]\n  actions: {install: {none: true}}\n",
		"a": "content", "b": strings.Repeat("b", 513),
	}
	data := build(t, files, None, &secret)
	for at := range data {
		bad := bytes.Clone(data)
		bad[at] ^= 1 << (at % 8)
		_, err := verify(bad, Options{Keys: []PublicKey{public}})
		if err == nil && !bytes.Equal(masked(bad), masked(data)) {
			t.Errorf("byte %d of %d may be changed", at, len(data))
		}
	}
}

func TestReplacedManifestIsRefused(t *testing.T) {
	secret, public := testKey(t)
	all := members(t, build(t, sampleFiles(), None, &secret))
	all[0].text = strings.Replace(all[0].text, "2.0.0.B120", "2.0.0.B121", 1)
	_, err := verify(archive(t, all...), Options{Keys: []PublicKey{public}})
	if got := refusal(t, err).Error(); !strings.Contains(got, "manifest.yaml.minisig: the signature is wrong") {
		t.Errorf("got %q", got)
	}
	all[1].text = "no signature"
	_, err = verify(archive(t, all...), Options{Keys: []PublicKey{public}})
	if got := refusal(t, err).Error(); !strings.Contains(got,
		"manifest.yaml.minisig: the signature can not be read: download the bundle again, or have it signed anew (minisign: ") {
		t.Errorf("got %q", got)
	}
}

// TestWrongSignatureComesFirst: of a manifest with a wrong signature nothing is
// looked at.
func TestWrongSignatureComesFirst(t *testing.T) {
	secret, public := testKey(t)
	sig := sign(secret, []byte("another text"), &Report{Manifest: &manifest.Manifest{Name: "x", Version: "1"}})
	data := archive(t, file(manifest.FileManifest, "]malformed["), file(manifest.FileSignature, string(sig)))
	_, err := verify(data, Options{Keys: []PublicKey{public}})
	if got := refusal(t, err).Error(); !strings.Contains(got, "the signature is wrong") {
		t.Errorf("got %q", got)
	}
}

// TestGzipBombEndsEarly reads no more of a bomb than the manifest allows.
func TestGzipBombEndsEarly(t *testing.T) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	try.Must(t, err)
	_, err = w.Write(archive(t, file(manifest.FileManifest, minimal(fileOf("a", "content"))), file("a", "content")))
	try.Must(t, err)
	for range 64 {
		_, err = w.Write(make([]byte, 1<<20))
		try.Must(t, err)
	}
	try.Must(t, w.Close())
	r := bytes.NewReader(b.Bytes())
	_, err = Verify(context.Background(), r, Options{AllowUnsigned: true})
	refusal(t, err)
	if r.Len() == 0 {
		t.Error("the whole bomb was read")
	}
}
