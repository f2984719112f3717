package replicate

import (
	"slices"
	"testing"
)

func TestChangedOf(t *testing.T) {
	got := changedOf(map[[2]string]*table{
		{"n", "b"}: {name: "nova.b", changed: 2}, {"n", "a"}: {name: "nova.a", changed: 1}, {"n", "c"}: {name: "nova.c"}})
	if want := []Changed{{"nova.a", 1}, {"nova.b", 2}}; !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
