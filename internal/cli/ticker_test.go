package cli

import (
	"strings"
	"testing"
)

func TestTicker(t *testing.T) {
	var b strings.Builder
	k := newTicker(&b)
	k.term = true
	k.show("a long line")
	k.show("short\x1b[31m")
	k.say("it stays")
	k.show(strings.Repeat("x", 200))
	if err := k.end(); err != nil {
		t.Fatal(err)
	}
	want := "\ra long line\rshort\ufffd[31m \r" + strings.Repeat(" ", 10) + "\rit stays\n\r" +
		strings.Repeat("x", 78) + "~\r" + strings.Repeat(" ", 79) + "\r"
	if b.String() != want {
		t.Errorf("a terminal got\n%q\nwant\n%q", b.String(), want)
	}
	b.Reset()
	k = newTicker(&b)
	k.show("first")
	k.show("too soon")
	k.last = k.last.Add(-newsEvery)
	k.show("later")
	if err := k.end(); err != nil || b.String() != "first\nlater\n" {
		t.Errorf("a file got %q, %v", b.String(), err)
	}
}
