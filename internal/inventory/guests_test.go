package inventory

import (
	"fmt"
	"strings"
	"testing"
)

// TestGuestQuery: what is asked for, part by part, and what can not be asked.
func TestGuestQuery(t *testing.T) {
	var all []Guest
	for i := range 250 {
		g := Guest{Name: fmt.Sprintf("Web-%d", i), UUID: fmt.Sprintf("uuid%03d", i), Host: "h1", State: GuestRuns,
			Addresses: []string{fmt.Sprintf("10.0.1.%d", i)}}
		if i >= 200 {
			g.Host, g.State = "h2", GuestOff
		}
		all = append(all, g)
	}
	for name, c := range map[string]struct {
		q            GuestQuery
		total, shown int
		first        string
	}{
		"all":             {GuestQuery{}, 250, 100, "Web-0"},
		"the third part":  {GuestQuery{Offset: 200}, 250, 50, "Web-200"},
		"a larger part":   {GuestQuery{Limit: 1000}, 250, 250, "Web-0"},
		"beyond the end":  {GuestQuery{Offset: 1000}, 250, 0, ""},
		"of a host":       {GuestQuery{Host: "h2"}, 50, 50, "Web-200"},
		"in a state":      {GuestQuery{State: GuestOff, Host: "h1"}, 0, 0, ""},
		"by its name":     {GuestQuery{Search: " wEB-24  "}, 11, 11, "Web-24"},
		"by all words":    {GuestQuery{Search: "web h2 1.249"}, 1, 1, "Web-249"},
		"no field has it": {GuestQuery{Search: "0 h"}, 250, 100, "Web-0"},
		"across fields":   {GuestQuery{Search: "249uuid"}, 0, 0, ""},
	} {
		p := c.q.Of(all)
		if p.Total != c.total || len(p.Guests) != c.shown || c.shown > 0 && p.Guests[0].Name != c.first || p.Guests == nil || p.Silent == nil {
			t.Errorf("%s: %d of %d, %+v", name, len(p.Guests), p.Total, p.Guests[:min(1, len(p.Guests))])
		}
		if err := c.q.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for want, q := range map[string]GuestQuery{
		"search: 201 bytes: want at most 200":                {Search: strings.Repeat("x", 201)},
		`state "dead": want running, paused, off or unknown`: {State: "dead"},
		"offset -1: want 0 or more":                          {Offset: -1},
		"limit 1001: want 1 to 1000, or 0 for 100":           {Limit: 1001},
		"limit -1: want 1 to 1000, or 0 for 100":             {Limit: -1},
	} {
		if err := q.Check(); err == nil || err.Error() != want {
			t.Errorf("%+v: %v, want %s", q, err, want)
		}
	}
}
