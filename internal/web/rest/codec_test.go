package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"holdfast/internal/api"
	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/inventory"
	"holdfast/internal/job"
	"holdfast/internal/transition/hostconf"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
	"holdfast/testbed/try"
)

// TestTheFormIsThatOfTheCommandLine: what is sent has the names, the levels and the values of -o json, and is read back.
func TestTheFormIsThatOfTheCommandLine(t *testing.T) {
	same[cluster.Status, *apiv1.Status](t)
	same[cluster.Event, *apiv1.Event](t)
	same[api.Progress, *apiv1.MigrateResponse](t)
	same[api.Version, *apiv1.GetVersionResponse](t)
	same[config.Revision, *apiv1.ConfigRevision](t)
	same[cluster.Reset, *apiv1.ResetPasswordResponse](t)
	same[config.Imported, *apiv1.ImportConfigResponse](t)
	same[cluster.StoreStatus, *apiv1.GetStoreStatusResponse](t)
	same[cluster.Backup, *apiv1.Backup](t)
	same[inventory.Certificate, *apiv1.Certificate](t)
	same[job.View, *apiv1.Job](t)
	same[hostconf.File, *apiv1.HostFile](t)
	same[hostconf.Answer, *apiv1.CompareFilesResponse](t)
	same[hostconf.Order, *apiv1.WriteFilesRequest](t)
	same[request.Request, *apiv1.UpgradeRequest](t)
	same[upgrade.Plan, *apiv1.Plan](t)
	same[check.Report, *apiv1.Report](t)
	same[request.Standing, *apiv1.Standing](t)
	same[cluster.PairStatus, *apiv1.PairStatus](t)
	same[cluster.User, *apiv1.User](t)
	same[cluster.Token, *apiv1.Token](t)
}

// same compares a value all of whose fields are set, and an empty one.
func same[T any, W proto.Message](t *testing.T) {
	t.Helper()
	var full, none T
	n := 0
	fill(t, reflect.ValueOf(&full).Elem(), &n)
	for _, v := range []T{full, none} {
		m := api.Encode[W](v)
		got, err := codec{}.MarshalAppend(nil, m)
		try.Must(t, err)
		var want bytes.Buffer
		try.Must(t, output.JSON(&want, v, true))
		differ(t, fmt.Sprintf("%T", v), decoded(t, got), decoded(t, want.Bytes()))
		back := m.ProtoReflect().New().Interface()
		if err := (codec{}).Unmarshal(got, back); err != nil {
			t.Errorf("%T: %v: %s", v, err, got)
		} else if !reflect.DeepEqual(api.Decode[T](back.(W)), api.Decode[T](m)) {
			t.Errorf("%T comes back as another one:\n got %v\nwant %v", v, back, m)
		}
	}
}

func decoded(t *testing.T, text []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// differ tells where two values differ. A list or an object without elements may be null on the command line, and a time
// that is not set may be left out here.
func differ(t *testing.T, at string, got, want any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		g, is := got.(map[string]any)
		if !is {
			t.Errorf("%s: %v, want %v", at, got, want)
			return
		}
		for name, w := range want {
			if v, there := g[name]; there {
				differ(t, at+"."+name, v, w)
			} else if w != nil && w != "0001-01-01T00:00:00Z" {
				t.Errorf("%s.%s is not there", at, name)
			}
		}
		for name := range g {
			if _, there := want[name]; !there {
				t.Errorf("%s.%s: the command line has no such field", at, name)
			}
		}
	case []any:
		g, is := got.([]any)
		if !is || len(g) != len(want) {
			t.Errorf("%s: %v, want %v", at, got, want)
			return
		}
		for i := range want {
			differ(t, fmt.Sprintf("%s[%d]", at, i), g[i], want[i])
		}
	case nil:
		if fmt.Sprint(got) != "[]" && fmt.Sprint(got) != "map[]" {
			t.Errorf("%s: %v, want null", at, got)
		}
	default:
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", at, got, want)
		}
	}
}

// fill sets every field of a value that is sent.
func fill(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Unix(int64(1_800_000_000+*n), int64(*n)).UTC()
		return
	case *json.RawMessage:
		*x = fmt.Appendf(nil, `{"n":%d}`, *n)
		return
	case *upgrade.Limit:
		x.Percent = 10
		return
	case *upgrade.Window:
		x.From, x.To = 60, 120
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.Tag.Get("json") != "-" && f.IsExported() {
				fill(t, v.Field(i), n)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(t, key, n)
			fill(t, value, n)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("text <%d> & \"more\"\n", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n) + 1<<53) // more than a float has digits for
	case reflect.Uint64:
		v.SetUint(uint64(*n) + 1<<63)
	case reflect.Float64:
		v.SetFloat(float64(*n) / 8)
	default:
		t.Fatalf("no filling for %s: teach the test", v.Type())
	}
}

// FuzzRead: no text makes it panic, and what it reads it writes and reads again.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"purpose":"upgrade","options":{"max_unavailable":"10%","window":"22:00-05:30"},"inventory":{"vms":[{"name":"a"}]}}`))
	f.Add([]byte(`{"inventory":{"at":"2026-01-01T00:00:00Z","backups":{"a":{"settings":{}}}}}`))
	f.Add([]byte(`[null,{"a":1e999}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, again := new(apiv1.UpgradeRequest), new(apiv1.UpgradeRequest)
		if (codec{}).Unmarshal(text, m) != nil {
			return
		}
		out, err := codec{}.MarshalAppend(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		if err := (codec{}).Unmarshal(out, again); err != nil || !proto.Equal(m, again) {
			t.Errorf("%s is written as %s, and read as %v: %v", text, out, again, err)
		}
	})
}

// TestEveryMessageHasItsForm: what requests and answers hold stands for types of the domain, with their names.
func TestEveryMessageHasItsForm(t *testing.T) {
	seen := map[protoreflect.FullName]bool{}
	var walk func(m protoreflect.MessageDescriptor, top bool)
	walk = func(m protoreflect.MessageDescriptor, top bool) {
		if seen[m.FullName()] {
			return
		}
		seen[m.FullName()] = true
		if !top && api.Forms(m) == nil && !m.IsMapEntry() {
			t.Errorf("%s: no type of the domain gives it its form: see internal/api/form.go", m.FullName())
		}
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			kind := formOf(f).Kind
			if f.Message() != nil && kind != api.FormText && kind != api.FormLists {
				walk(f.Message(), false)
			}
		}
	}
	all := methods()
	for _, r := range routes {
		walk(all[r.procedure].Input(), true)
		walk(all[r.procedure].Output(), true)
	}
}
