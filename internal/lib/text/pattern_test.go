package text

import "testing"

func TestNew(t *testing.T) {
	word := Pattern(`^[a-z]{1,3}$`)
	if !word().MatchString("abc") || word().MatchString("abcd") {
		t.Error("it is another expression")
	}
	if first, again := word(), word(); first != again {
		t.Error("it is compiled again")
	}
	bad := Pattern(`(`)
	defer func() {
		if recover() == nil {
			t.Error("want a panic for what is no expression")
		}
	}()
	bad()
}
