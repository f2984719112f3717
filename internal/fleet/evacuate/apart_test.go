package evacuate

import (
	"slices"
	"testing"
)

func TestPartners(t *testing.T) {
	groups := []Apart{{"db", []string{"u1", "u2", "u3"}}, {"web", []string{"u4", "u5"}}, {"all", []string{"u3", "u4", "u1"}}}
	for uuid, want := range map[string][2][]string{
		"u1": {{"u2", "u3", "u4"}, {"db", "all"}}, "u2": {{"u1", "u3"}, {"db"}}, "u5": {{"u4"}, {"web"}}, "u6": {}, "": {},
	} {
		if uuids, names := Partners(groups, uuid); !slices.Equal(uuids, want[0]) || !slices.Equal(names, want[1]) {
			t.Errorf("%s: %v of %v, want %v", uuid, uuids, names, want)
		}
	}
}
