package progress

import (
	"strings"
	"testing"
)

func TestTicker(t *testing.T) {
	var b strings.Builder
	k := NewTicker(&b)
	k.Terminal = true
	k.Show("a long line")
	k.Show("short\x1b[31m")
	k.Say("it stays")
	k.Show(strings.Repeat("x", 200))
	if err := k.End(); err != nil {
		t.Fatal(err)
	}
	want := "\ra long line\rshort\ufffd[31m \r" + strings.Repeat(" ", 10) + "\rit stays\n\r" +
		strings.Repeat("x", 78) + "~\r" + strings.Repeat(" ", 79) + "\r"
	if b.String() != want {
		t.Errorf("a terminal got\n%q\nwant\n%q", b.String(), want)
	}
	b.Reset()
	k = NewTicker(&b)
	k.Show("first")
	k.Show("too soon")
	k.last = k.last.Add(-newsEvery)
	k.Show("later")
	if err := k.End(); err != nil || b.String() != "first\nlater\n" {
		t.Errorf("a file got %q, %v", b.String(), err)
	}
}
