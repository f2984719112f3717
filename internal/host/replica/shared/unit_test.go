package shared

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/fail"
	"holdfast/internal/testbed/try"
)

func TestKeys(t *testing.T) {
	seen := map[Key]bool{}
	for _, pair := range []string{"", "a", "b"} {
		for node := range 2 {
			k := KeyOf(pair, node)
			if k == 0 || seen[k] || k != KeyOf(pair, node) {
				t.Errorf("the key of %q, %d is %s", pair, node, k)
			}
			seen[k] = true
		}
	}
}

// answers are those of tgt 1.0.85.
var (
	twoKeys      = []byte{0, 0, 0, 2, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0xa1, 0, 0, 0, 0, 0, 0, 0, 0xb2, 0, 0}
	held         = []byte{0, 0, 0, 2, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0xa1, 0, 0, 0, 0, 0, 1, 0, 0}
	free         = []byte{0, 0, 0, 2, 0, 0, 0, 0}
	capabilities = []byte{0, 8, 0, 0x80, 0xea, 1, 0, 0}
)

func TestParse(t *testing.T) {
	keys, err := parseKeys(twoKeys)
	if err != nil || !slices.Equal(keys, []Key{0xa1, 0xb2}) {
		t.Errorf("keys %v, %v", keys, err)
	}
	if r, err := parseReservation(held); err != nil || r != (Reservation{0xa1, 1}) {
		t.Errorf("held: %+v, %v", r, err)
	}
	if r, err := parseReservation(free); err != nil || r != (Reservation{}) {
		t.Errorf("free: %+v, %v", r, err)
	}
	if has, err := parseCapabilities(capabilities); err != nil || !has {
		t.Errorf("capabilities: %v, %v", has, err)
	}
	if has, err := parseCapabilities([]byte{0, 8, 0, 0x80, 0xe8, 1, 0, 0}); err != nil || has {
		t.Errorf("capabilities without the type: %v, %v", has, err)
	}
	if has, err := parseCapabilities([]byte{0, 8, 0, 0, 0, 0, 0, 0}); err != nil || !has {
		t.Errorf("capabilities without types: %v, %v", has, err)
	}
	for n := range held {
		if _, err := parseReservation(held[:n]); err == nil {
			t.Errorf("a reservation of %d bytes", n)
		}
	}
	if _, err := parseReservation(append(slices.Clone(held[:21]), 0x11, 0, 0)); err == nil {
		t.Error("a reservation of another scope")
	}
	if _, err := parseKeys([]byte{0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3}); err == nil {
		t.Error("half a key")
	}
}

func TestAnswers(t *testing.T) {
	fixed := func(key, code, qualifier byte) []byte {
		b := make([]byte, 18)
		b[0], b[2], b[12], b[13] = 0x70, key, code, qualifier
		return b
	}
	for _, tc := range []struct {
		what string
		answer
		want error
	}{
		{"good", answer{}, nil},
		{"a conflict", answer{status: 0x18}, ErrConflict},
		{"a lost path", answer{host: 1}, ErrPath},
		{"reservations released", answer{status: 2, driver: 8, sense: fixed(6, 0x2a, 4)}, errAttention},
		{"a service action that is not known", answer{status: 2, driver: 8, sense: fixed(5, 0x24, 0)}, errIllegal},
		{"a code that is not known", answer{status: 2, sense: []byte{0x72, 5, 0x20, 0}}, errIllegal},
	} {
		if err := tc.err(); !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: %v, want %v", tc.what, err, tc.want)
		}
	}
	for _, a := range []answer{
		{status: 8}, {status: 2}, {status: 2, sense: []byte{0x71}}, {status: 2, sense: fixed(5, 0x26, 0)}, {status: 2, sense: fixed(3, 0x11, 0)}, {driver: 6},
	} {
		err := a.err()
		for _, is := range []error{ErrNone, ErrConflict, ErrPath, errAttention, errIllegal} {
			if err == nil || errors.Is(err, is) {
				t.Errorf("%+v: %v", a, err)
			}
		}
	}
}

func TestCommands(t *testing.T) {
	c, p := commandOut(outPreemptAbort, 1, 2)
	if !bytes.Equal(c, []byte{0x5f, 5, 1, 0, 0, 0, 0, 0, 24, 0}) || !bytes.Equal(p, []byte{7: 1, 15: 2, 23: 0}) {
		t.Errorf("% x, % x", c, p)
	}
	if c := commandIn(inReservation); !bytes.Equal(c, []byte{0x5e, 1, 0, 0, 0, 0, 0, 0x20, 0, 0}) {
		t.Errorf("% x", c)
	}
}

func TestHead(t *testing.T) {
	want := uuidOf("a")
	if want == uuidOf("b") || want[6]>>4 != 8 || len(want.String()) != 36 || strings.Count(want.String(), "-") != 4 {
		t.Errorf("UUID %s", want)
	}
	ext := make([]byte, headBytes)
	ext[1024+0x38], ext[1024+0x39] = 0x53, 0xef
	copy(ext[1024+0x68:], want[:])
	xfs := append([]byte("XFSB"), make([]byte, headBytes)...)
	copy(xfs[32:], want[:])
	for _, b := range [][]byte{ext, xfs} {
		if u, ok := parseHead(b); !ok || u != want {
			t.Errorf("read %s, %v", u, ok)
		}
	}
	if _, ok := parseHead(make([]byte, headBytes)); ok {
		t.Error("a file system of zeros")
	}
}

func TestWhatIsNoDevice(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	try.Must(t, os.WriteFile(file, nil, 0o600))
	d := New(file, "a", 0)
	var e *fail.Error
	if _, err := d.Holder(t.Context()); !errors.As(err, &e) || e.Kind != fail.Invalid {
		t.Errorf("a file: %v", err)
	}
	if err := New(file+"x", "a", 0).Claim(t.Context(), true); !errors.Is(err, ErrPath) {
		t.Errorf("nothing: %v", err)
	}
}

// FuzzParsers: whatever a device answers is read without a panic, and a length that is too
// long is never believed.
func FuzzParsers(f *testing.F) {
	for _, b := range [][]byte{nil, twoKeys, held, free, capabilities, {0x72, 5, 0x20, 0}, []byte("XFSB")} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if keys, err := parseKeys(b); err == nil && 8+8*len(keys) > len(b) {
			t.Errorf("%d keys of %d bytes", len(keys), len(b))
		}
		if r, err := parseReservation(b); err == nil && r.Key != 0 && len(b) < 24 {
			t.Errorf("%+v of %d bytes", r, len(b))
		}
		_, _ = parseCapabilities(b)
		_, _, _ = parseSense(b)
		_, _ = parseHead(b)
		_ = answer{status: 2, sense: b}.err()
	})
}
