package transition

import (
	"fmt"
	"strings"
	"testing"
)

func TestRealNames(t *testing.T) {
	names := []string{"nova", "nova_api", "glance"}
	for _, c := range []struct{ words, want string }{
		{"", "map[glance:glance nova:nova nova_api:nova_api]"},
		{"nova=a,glance=b", "map[glance:b nova:a nova_api:nova_api]"},
		{"nova=a glance=b,nova_api=c", "map[glance:b nova:a nova_api:c]"},
		{"nova=a,b,glance=c", "map[glance:c nova:a,b nova_api:nova_api]"}, // a database's name may have a comma
		{"nova=a,nova=b", `--source-db "nova=b": nova is given twice`},
		{"nova=a,", `--source-db "": want NAME=REAL, such as nova=old_nova`},
		{",nova=a", `--source-db "": want NAME=REAL, such as nova=old_nova`},
		{"nova=a,cinder=b", `--source-db "cinder=b": the mapping has no database "cinder" there; want nova or nova_api or glance`},
	} {
		got, err := realNames("source-db", strings.Fields(c.words), names)
		text := fmt.Sprint(got)
		if err != nil {
			text = err.Error()
		}
		if text != c.want {
			t.Errorf("%q: %s, want %s", c.words, text, c.want)
		}
	}
}
