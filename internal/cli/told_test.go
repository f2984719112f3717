package cli

import (
	"bytes"
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"holdfast/internal/api"
	"holdfast/internal/cli/output"
	"holdfast/internal/cli/progress"
	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
)

// TestToldTypes: everything that a command tells is known by its type, and no duration in
// it is without a unit.
func TestToldTypes(t *testing.T) {
	told := map[reflect.Type]bool{}
	var look func(t reflect.Type, at string)
	look = func(x reflect.Type, at string) {
		if told[x] {
			return
		}
		told[x] = true
		switch x.Kind() {
		case reflect.Interface:
			t.Errorf("%s may hold anything, also durations", at)
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
			look(x.Elem(), at)
		case reflect.Struct:
			for i := range x.NumField() {
				if f := x.Field(i); f.IsExported() && !reflect.PointerTo(x).Implements(reflect.TypeFor[json.Marshaler]()) {
					look(f.Type, at+"."+f.Name)
				}
			}
		}
	}
	for _, v := range []any{cluster.Status{}, cluster.Event{}, cluster.StoreStatus{}, cluster.Backup{}, job.View{},
		upgrade.Plan{}, request.Standing{}, check.Report{}, progress.Outcome{}, hostLine{}, api.Progress{}} {
		look(reflect.TypeOf(v), reflect.TypeOf(v).String())
	}
	s := cluster.Status{Owner: cluster.Owner{Proof: cluster.Proof{Wait: 1}},
		Hosts: []cluster.HostStatus{{Host: cluster.Host{WatchdogTimeout: 1}}}, Takeover: cluster.Takeover{Within: 1}}
	var b bytes.Buffer
	if err := output.JSON(&b, s, true); err != nil {
		t.Fatal(err)
	}
	got := regexp.MustCompile(`[a-z_]+_ns`).FindAllString(b.String(), -1)
	if want := "wait_ns guard_ns watchdog_timeout_ns silent_ns within_ns lease_ns keepalive_ns grace_ns watchdog_ns " +
		"epsilon_ns election_ns heartbeat_ns detection_ns"; strings.Join(got, " ") != want {
		t.Errorf("%q, want %q", got, want)
	}
}
