package install

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/config"
	"holdfast/testbed/try"
)

// TestAnInstallationMakesTheFirstUser of the console, where there is none, and tells where it answers.
func TestAnInstallationMakesTheFirstUser(t *testing.T) {
	const status = `{"connected":true,"hosts":[{"name":"a","alive":true},{"name":"b","alive":true},{"name":"c","alive":true}],` +
		`"want":{"run":true},"owner":{"state":"running","host":"a"},"takeover":{"possible":true}}`
	const adds = "user add admin --role admin -o json"
	at := func(port string) (all []string) {
		for _, h := range Members(testConfig()) {
			all = append(all, "https://"+h.Addr+":"+port)
		}
		return all
	}
	answers := func(list, add string, lost error) func([]string) (string, error) {
		return func(args []string) (string, error) {
			switch strings.Join(args, " ") {
			case "user list -o json":
				return list, nil
			case adds:
				return add, lost
			}
			return "", errors.New("want no such command")
		}
	}
	for name, c := range map[string]struct {
		listen string
		users  func([]string) (string, error)
		want   *Console
	}{
		"there is no user": {"", answers("[]", `{"name":"admin","password":"once"}`, nil),
			&Console{Addresses: at("8443"), User: "admin", Password: "once"}},
		"there is one":    {"", answers(`[{"name":"bob","role":"viewer"}]`, "", errors.New("want none")), &Console{Addresses: at("8443")}},
		"at another port": {"0.0.0.0:443", nil, &Console{Addresses: at("443")}},
		"there is none":   {"none", answers("", "", nil), nil},
		"the reply is lost": {"", answers("[]", "", errors.New("broken pipe")), &Console{Addresses: at("8443"),
			Wrong: "no user of the console was made: broken pipe; make one: holdfast user add admin --role admin"}},
		"it answers nonsense": {"", answers("[]", "what?", nil), &Console{Addresses: at("8443"),
			Wrong: "no user of the console was made: holdfast user add: read what it answers: invalid character 'w' looking for " +
				"beginning of value; make one: holdfast user add admin --role admin"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var begun time.Time
				hosts := map[string]fine{}
				for _, s := range good() {
					hosts[s.host.Name] = fine{facts: s.facts, begun: &begun, users: c.users, status: func(time.Duration) string { return status }}
				}
				res, err := Install(t.Context(), Options{
					Config: testConfig(), Base: config.Node{Console: config.Console{Listen: c.listen}}, Parallel: 1,
					Connect: func(_ context.Context, h Host) (Conn, error) { return hosts[h.Name], nil },
					Tell:    func(string, string) {},
				}, false)
				try.Must(t, err)
				if !res.OK || !reflect.DeepEqual(res.Console, c.want) {
					t.Errorf("%+v, want %+v, %+v", res.Console, c.want, res.Findings)
				}
			})
		})
	}
}
