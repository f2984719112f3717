package told

import "strings"

// CheckName is the name of a check of hosts in the reader's language, by T. Names of checks may be names of something else
// elsewhere: the catalogue has them as "check NAME".
func CheckName(T func(string) string, check string) string {
	check = Clean(check)
	if name := T("check " + check); !strings.Contains(name, "check ") {
		return name
	}
	return T(check) // it has none of its own
}
