package feature

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOrder(t *testing.T) {
	all := All()
	for _, pair := range [][2]Name{{Restart, Stop}, {Stop, Start}, {Attach, Detach}, {Down, Up}} {
		if slices.Index(all, pair[0])+1 != slices.Index(all, pair[1]) {
			t.Errorf("%s does not follow %s: %v", pair[1], pair[0], all)
		}
	}
	if api := AllOfAPI(); slices.Index(api, New)+2 != slices.Index(api, Rebuild) || len(api) != len(all)+3 {
		t.Errorf("by the API: %v", api)
	}
	for _, n := range AllOfAPI() {
		if want := n == Start || n == Detach || n == Up || n == Inside || n == Rebuild; n.Continues() != want {
			t.Errorf("%s continues: %v", n, n.Continues())
		}
	}
}

func TestSkip(t *testing.T) {
	whole := Facts{Persistent: true, Disk: true, Card: true, Folder: true, Target: true}
	for _, n := range All() {
		if why := whole.Skip(n); why != "" {
			t.Errorf("%s is skipped: %s", n, why)
		}
	}
	for _, c := range []struct {
		name string
		take func(*Facts)
		want []Name
	}{
		{"transient", func(f *Facts) { f.Persistent = false }, []Name{Resize}},
		{"cells", func(f *Facts) { f.Cells = true }, []Name{Resize}},
		{"no disk", func(f *Facts) { f.Disk = false }, []Name{Image}},
		{"no card", func(f *Facts) { f.Card = false }, []Name{Down, Up}},
		{"no folder", func(f *Facts) { f.Folder = false }, []Name{Attach, Detach, Image, New}},
		{"no target", func(f *Facts) { f.Target = false }, []Name{Live, Cold}},
	} {
		f := whole
		c.take(&f)
		var got []Name
		for _, n := range All() {
			if f.Skip(n) != "" {
				got = append(got, n)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestSkipOfAPI(t *testing.T) {
	whole := CloudFacts{Version: 93, Volumes: true, Images: true, Image: true, Port: true, Hosts: 1, Flavor: true,
		Service: true, CloudInit: true, DHCP: true}
	for _, c := range []struct {
		name string
		take func(*CloudFacts)
		want []Name
	}{
		{"all", func(*CloudFacts) {}, nil},
		{"no Cinder", func(f *CloudFacts) { f.Volumes = false }, []Name{Attach, Detach}},
		{"no Glance", func(f *CloudFacts) { f.Images = false }, []Name{Image}},
		{"from a volume", func(f *CloudFacts) { f.Image = false }, []Name{New, Inside, Rebuild}},
		{"no port", func(f *CloudFacts) { f.Port = false }, []Name{Down, Up, Inside}},
		{"port is down", func(f *CloudFacts) { f.Down = true }, []Name{Down, Up}},
		{"no flavor", func(f *CloudFacts) { f.Flavor = false }, []Name{Resize}},
		{"one host", func(f *CloudFacts) { f.Hosts = 0 }, []Name{Live, Cold}},
		{"Pike", func(f *CloudFacts) { f.Version = 53 }, []Name{Cold}},
		{"Liberty", func(f *CloudFacts) { f.Version = 12 }, []Name{Live, Cold}},
		{"no service", func(f *CloudFacts) { f.Service = false }, []Name{Metadata}},
		{"no cloud-init", func(f *CloudFacts) { f.CloudInit = false }, []Name{Inside}},
		{"static addresses", func(f *CloudFacts) { f.DHCP = false }, []Name{Inside}},
	} {
		f := whole
		c.take(&f)
		var got []Name
		for _, n := range AllOfAPI() {
			if f.Skip(n) != "" {
				got = append(got, n)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func report(results ...Outcome) *Report {
	r := &Report{}
	for i, o := range results {
		if o != "" {
			r.Features = append(r.Features, Result{Name: All()[i], Result: o})
		}
	}
	return r
}

func TestCompare(t *testing.T) {
	before := report(OK, OK, OK, Failed, Failed, Failed, Skipped, Skipped, Skipped, "", OK)
	now := report(OK, Failed, Skipped, OK, Failed, Skipped, OK, Failed, Skipped, Failed, "")
	want := []bool{false, true, true, false, false, false, false, true, false, true, true}
	rows := Compare(before, now)
	if len(rows) != len(want) {
		t.Fatalf("%d rows: %+v", len(rows), rows)
	}
	for i, r := range rows {
		if r.Name != All()[i] || r.Worse != want[i] {
			t.Errorf("%s: %s, then %s: worse %v, want %v", r.Name, r.Before.Result, r.Now.Result, r.Worse, want[i])
		}
	}
	if n := now.Count(Failed); n != 4 {
		t.Errorf("%d failed", n)
	}
}

func TestRead(t *testing.T) {
	r := Report{
		Guest: Guest{"t1", "98000000-0000-4000-8000-000000000001"}, Libvirt: "9.0.0", QEMU: "7.2.22", At: time.Unix(1767366245, 0).UTC(),
		Features: []Result{{Stop, OK, "", 1.5}, {Live, Skipped, "no --target given", 0}},
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read(text)
	if err != nil || !reflect.DeepEqual(*got, r) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, c := range []struct{ text, want string }{
		{"", "no result"},
		{"[]", "no result"},
		{"{}", "features"},
		{`{"features":[{"name":"stop","result":"fine"}]}`, `features[0].result: "fine": want ok, failed or skipped`},
		{`{"features":[{"result":"ok"}]}`, "features[0].name"},
		{`{"features":[{"name":"stop","result":"ok"},{"name":"stop","result":"ok"}]}`, "features[1].name: \"stop\" is there twice"},
		{`{"features":[{"name":"stop","result":"ok","seconds":"2"}]}`, "seconds"},
	} {
		if _, err := Read([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.text, err, c.want)
		}
	}
}
