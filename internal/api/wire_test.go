package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/job"
	"holdfast/internal/transition"
	"holdfast/internal/transition/hostconf"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
)

// TestRoundTrip: every message that stands for a domain type carries all of it. A
// message that is new needs a line here.
func TestRoundTrip(t *testing.T) {
	seen := messages{}
	roundTrip[cluster.Status, *apiv1.Status](t, seen)
	roundTrip[EventPage, *apiv1.ListEventsResponse](t, seen)
	roundTrip[EventPage, *apiv1.WatchEventsResponse](t, seen)
	roundTrip[Progress, *apiv1.MigrateResponse](t, seen)
	roundTrip[Version, *apiv1.GetVersionResponse](t, seen)
	roundTrip[config.Revision, *apiv1.ConfigRevision](t, seen)
	roundTrip[cluster.Reset, *apiv1.ResetPasswordResponse](t, seen)
	roundTrip[config.Imported, *apiv1.ImportConfigResponse](t, seen)
	roundTrip[cluster.StoreStatus, *apiv1.GetStoreStatusResponse](t, seen)
	roundTrip[cluster.Backup, *apiv1.Backup](t, seen)
	roundTrip[inventory.Summary, *apiv1.GuestHost](t, seen)
	roundTrip[inventory.GuestQuery, *apiv1.ListGuestsRequest](t, seen)
	roundTrip[inventory.GuestPage, *apiv1.ListGuestsResponse](t, seen)
	roundTrip[job.View, *apiv1.Job](t, seen)
	roundTrip[job.Output, *apiv1.GetStepOutputResponse](t, seen)
	roundTrip[transition.Preview, *apiv1.PlanTransitionResponse](t, seen)
	roundTrip[transition.Sites, *apiv1.ListSitesResponse](t, seen)
	roundTrip[hostconf.File, *apiv1.HostFile](t, seen)
	roundTrip[hostconf.Answer, *apiv1.CompareFilesResponse](t, seen)
	roundTrip[hostconf.Order, *apiv1.WriteFilesRequest](t, seen)
	roundTrip[request.BundleInfo, *apiv1.BundleInfo](t, seen)
	roundTrip[request.Request, *apiv1.UpgradeRequest](t, seen)
	roundTrip[upgrade.Plan, *apiv1.Plan](t, seen)
	roundTrip[check.Report, *apiv1.Report](t, seen)
	roundTrip[request.Begun, *apiv1.RunUpgradeResponse](t, seen)
	roundTrip[request.Standing, *apiv1.Standing](t, seen)
	roundTrip[fact.Wanted, *apiv1.GatherFactsRequest](t, seen)
	roundTrip[fact.Facts, *apiv1.Facts](t, seen)
	roundTrip[cluster.PairStatus, *apiv1.PairStatus](t, seen)
	roundTrip[cluster.PeerStatus, *apiv1.PeerStatus](t, seen)
	roundTrip[cluster.RowsQuery, *apiv1.RowsQuery](t, seen)
	roundTrip[cluster.RowsPart, *apiv1.RowsPart](t, seen)
	roundTrip[cluster.User, *apiv1.User](t, seen)
	roundTrip[cluster.Token, *apiv1.Token](t, seen)
	roundTrip[cluster.Receiver, *apiv1.Receiver](t, seen)
	roundTrip[cluster.LogQuery, *apiv1.GetHostLogRequest](t, seen)
	roundTrip[cluster.HostLog, *apiv1.HostLog](t, seen)
	roundTrip[cluster.FenceTest, *apiv1.FenceTest](t, seen)

	files := Files
	for _, file := range files { // handlers make these, field by field
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				seen[methods.Get(j).Input().FullName()], seen[methods.Get(j).Output().FullName()] = true, true
			}
		}
	}
	seen[new(apiv1.ErrorDetail).ProtoReflect().Descriptor().FullName()] = true // of errors.go
	for _, file := range files {
		seen.want(t, file.Messages())
	}
}

// want fails when no domain type is behind a message.
func (seen messages) want(t *testing.T, ms protoreflect.MessageDescriptors) {
	t.Helper()
	for i := range ms.Len() {
		if m := ms.Get(i); !seen[m.FullName()] && !m.IsMapEntry() {
			t.Errorf("%s: no domain type is behind it", m.FullName())
		}
		seen.want(t, ms.Get(i).Messages())
	}
}

// messages are the types of messages that were looked at.
type messages map[protoreflect.FullName]bool

// roundTrip sends a value all of whose fields are set.
func roundTrip[T any, W proto.Message](t *testing.T, seen messages) {
	t.Helper()
	var want T
	new(filler).fill(t, reflect.ValueOf(&want).Elem())
	m := Encode[W](want)
	seen.complete(t, m.ProtoReflect())
	if got := Decode[T](overWire(t, m)); !reflect.DeepEqual(got, want) {
		t.Errorf("%T changed on the way:\n got %+v\nwant %+v", want, got, want)
	}
	var none T
	if got := Decode[T](overWire(t, Encode[W](none))); !reflect.DeepEqual(got, none) {
		t.Errorf("an empty %T became %+v", none, got)
	}
	var absent W
	if got := Decode[T](absent); !reflect.DeepEqual(got, none) {
		t.Errorf("an absent %T became %+v", none, got)
	}
}

// filler sets every field of a value that is sent to something that is not zero and differs
// from field to field.
type filler struct{ n int }

func (f *filler) fill(t *testing.T, v reflect.Value) {
	t.Helper()
	f.n++
	switch v.Type() {
	case timeType:
		v.Set(reflect.ValueOf(time.Unix(int64(f.n), int64(f.n)).UTC()))
		return
	case rawType:
		v.SetBytes(fmt.Appendf(nil, `{"n": %d}`, f.n))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("json") != "-" {
				f.fill(t, v.Field(i))
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(t, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			f.fill(t, v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			f.fill(t, key)
			f.fill(t, value)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d", f.n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(f.n))
	case reflect.Uint64:
		v.SetUint(uint64(f.n))
	case reflect.Float64:
		v.SetFloat(float64(f.n) / 8)
	default:
		t.Fatalf("no filling for %s: teach the test", v.Type())
	}
}

// complete fails when a field of a message, at any depth, is not set: then no
// domain field is behind it.
func (seen messages) complete(t *testing.T, m protoreflect.Message) {
	t.Helper()
	seen[m.Descriptor().FullName()] = true
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		switch {
		case !m.Has(fd):
			t.Errorf("%s is not set from the domain type", fd.FullName())
		case fd.IsMap() && fd.MapValue().Message() != nil:
			m.Get(fd).Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				seen.complete(t, v.Message())
				return true
			})
		case fd.IsMap():
		case fd.IsList() && fd.Message() != nil:
			for j := range m.Get(fd).List().Len() {
				seen.complete(t, m.Get(fd).List().Get(j).Message())
			}
		case fd.Message() != nil:
			seen.complete(t, m.Get(fd).Message())
		}
	}
}

// overWire packs and unpacks a message.
func overWire[M proto.Message](t *testing.T, m M) M {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	into := m.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
	return into.(M)
}

// TestAnswerOfAnEarlierVersion: an agent that says something else than was asked for is not
// taken at its word.
func TestAnswerOfAnEarlierVersion(t *testing.T) {
	c := &Client{target: "unix:/s"}
	if _, err := answer[upgrade.Plan](c, (*apiv1.Plan)(nil)); err == nil || !strings.Contains(err.Error(), "is of another version") {
		t.Errorf("got %v", err)
	}
	if p, err := answer[upgrade.Plan](c, &apiv1.Plan{To: "2"}); err != nil || p.To != "2" {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestTextThatIsNotUTF8(t *testing.T) {
	m := Encode[*apiv1.Status](cluster.Status{StoreError: "disk \xff full"})
	if got, want := overWire(t, m).StoreError, "disk \uFFFD full"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestZoneOfATime: a time that travels as a text keeps its zone, and one that is none is
// the zero time.
func TestZoneOfATime(t *testing.T) {
	type domain struct{ At time.Time }
	type message struct{ At string }
	want := time.Date(2026, 7, 1, 12, 0, 0, 5, time.FixedZone("", 2*60*60))
	m := Encode[*message](domain{want})
	if got := Decode[domain](m).At; m.At != "2026-07-01T12:00:00.000000005+02:00" || !got.Equal(want) || got.Format(time.RFC3339Nano) != m.At {
		t.Errorf("%s came back as %s", m.At, got)
	}
	if got := Decode[domain](&message{"soon"}).At; !got.IsZero() {
		t.Errorf("no time came back as %s", got)
	}
}

// TestFieldsWithoutPartner: what is forgotten on one side is found at the first use.
func TestFieldsWithoutPartner(t *testing.T) {
	type inner struct{ Name string }
	type wireInner struct{ Name string }
	for want, c := range map[string]struct{ domain, wire reflect.Type }{
		"has no field b for ": {reflect.TypeFor[struct{ A, B string }](), reflect.TypeFor[*struct{ A string }]()},
		"has no field for b ": {reflect.TypeFor[struct{ A string }](), reflect.TypeFor[*struct{ A, B string }]()},
		"has no field for secret ": {reflect.TypeFor[struct {
			Secret string `json:"-"`
		}](), reflect.TypeFor[*struct{ Secret string }]()},
		"has no field ans for ":         {reflect.TypeFor[struct{ A time.Duration }](), reflect.TypeFor[*struct{ A int64 }]()},
		"has no field ajson for ":       {reflect.TypeFor[struct{ A json.RawMessage }](), reflect.TypeFor[*struct{ A string }]()},
		"int does not fit string":       {reflect.TypeFor[struct{ A int }](), reflect.TypeFor[*struct{ A string }]()},
		"uint8 does not fit uint8":      {reflect.TypeFor[struct{ A []byte }](), reflect.TypeFor[*struct{ A []byte }]()},
		"inner does not fit []*api.":    {reflect.TypeFor[struct{ A inner }](), reflect.TypeFor[*struct{ A []*wireInner }]()},
		"want a message with one field": {reflect.TypeFor[struct{ A [][]string }](), reflect.TypeFor[*struct{ A []*struct{ B, C []string } }]()},
		"bool does not fit int64":       {reflect.TypeFor[struct{ A map[string]bool }](), reflect.TypeFor[*struct{ A map[string]int64 }]()},
	} {
		if _, err := newCodec(c.domain, c.wire); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s and %s: got %v, want %q", c.domain, c.wire, err, want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a value was sent without one of its fields")
		}
	}()
	Encode[*struct{}](struct{ A string }{"lost"})
}
