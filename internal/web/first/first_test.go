package first

import (
	"context"
	"errors"
	"html"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/install/remote"
	"holdfast/internal/lib/fail"
	"holdfast/testbed/try"
)

// rig is a first run that is served, and a browser that does not follow.
type rig struct {
	*Run
	*httptest.Server
	told []string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	x := &rig{}
	x.Run = New(Options{Host: "h1", Version: "1", KnownHosts: t.TempDir() + "/known",
		Tell: func(s string) { x.told = append(x.told, s) }, Log: slog.New(slog.DiscardHandler),
		Files: func(bool) ([]install.File, error) { return nil, nil }})
	x.Run.ctx = t.Context()
	x.Server = httptest.NewTLSServer(x.handler)
	t.Cleanup(func() {
		x.drop()
		x.Close()
	})
	return x
}

func (x *rig) browser(t *testing.T) *http.Client {
	t.Helper()
	c := x.Client()
	jar, err := cookiejar.New(nil)
	try.Must(t, err)
	return &http.Client{Transport: c.Transport, Jar: jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// inside is a browser that was let in.
func (x *rig) inside(t *testing.T) *http.Client {
	t.Helper()
	b := x.browser(t)
	if code, to, _ := x.post(t, b, "/login", url.Values{"code": {x.Code()}}); code != http.StatusSeeOther || to != "/" {
		t.Fatalf("the code lets in: %d, to %s", code, to)
	}
	return b
}

func answer(t *testing.T, r *http.Response, err error) (code int, to, body string) {
	t.Helper()
	try.Must(t, err)
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	try.Must(t, err)
	return r.StatusCode, r.Header.Get("Location"), string(text)
}

func (x *rig) get(t *testing.T, b *http.Client, path string) (code int, to, body string) {
	t.Helper()
	r, err := b.Get(x.URL + path)
	return answer(t, r, err)
}

func (x *rig) post(t *testing.T, b *http.Client, path string, form url.Values) (code int, to, body string) {
	t.Helper()
	r, err := b.PostForm(x.URL+path, form)
	return answer(t, r, err)
}

// TestOnlyTheCodeLetsIn: nobody sees a page without it, and each code lets one browser in.
func TestOnlyTheCodeLetsIn(t *testing.T) {
	x := newRig(t)
	stranger := x.browser(t)
	for _, path := range []string{"/", "/cluster", "/pair", "/pair/size", "/paths", "/work", "/live/work", "/nothing"} {
		if code, to, _ := x.get(t, stranger, path); code != http.StatusSeeOther || to != "/login" {
			t.Errorf("a stranger gets %s: %d, to %s", path, code, to)
		}
	}
	for _, path := range []string{"/cluster", "/pair", "/work/keys", "/work/make", "/work/check", "/work/stop", "/work/finish"} {
		if code, to, _ := x.post(t, stranger, path, nil); code != http.StatusSeeOther || to != "/login" {
			t.Errorf("a stranger posts %s: %d, to %s", path, code, to)
		}
	}
	first := x.Code()
	for _, wrong := range []string{"", "x", first[1:], first + "a"} {
		if code, _, body := x.post(t, stranger, "/login", url.Values{"code": {wrong}}); code != http.StatusForbidden ||
			!strings.Contains(body, "This is not the code.") {
			t.Errorf("%q: %d", wrong, code)
		}
	}
	x.inside(t)
	if code, _, _ := x.post(t, stranger, "/login", url.Values{"code": {first}}); code != http.StatusForbidden {
		t.Errorf("the code again: %d", code)
	}
	if all := strings.Join(x.told, "\n"); !strings.Contains(all, "was let in; the code of the next one is "+x.Code()) ||
		!strings.Contains(all, "a wrong code") {
		t.Errorf("told: %s", all)
	}
	if code, _, _ := x.post(t, stranger, "/login", url.Values{"code": {" " + strings.ToUpper(x.Code()) + "\n"}}); code != http.StatusSeeOther {
		t.Errorf("the next code: %d", code)
	}
}

// TestNoOtherSiteOrders: a form of another site is refused, with the cookie and without.
func TestNoOtherSiteOrders(t *testing.T) {
	x := newRig(t)
	b := x.inside(t)
	for _, path := range []string{"/cluster", "/pair", "/work/make", "/work/finish", "/login"} {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, x.URL+path, strings.NewReader("a=b"))
		try.Must(t, err)
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		q.Header.Set("Sec-Fetch-Site", "cross-site")
		r, err := b.Do(q)
		if code, _, _ := answer(t, r, err); code != http.StatusForbidden {
			t.Errorf("%s: %d", path, code)
		}
	}
	r, err := b.Get(x.URL + "/")
	_, _, _ = answer(t, r, err)
	if r.Header.Get("Content-Security-Policy") == "" || r.Header.Get("X-Frame-Options") != "DENY" {
		t.Errorf("headers: %v", r.Header)
	}
}

// well is a cluster's form in which nothing is wrong.
func well() url.Values {
	return url.Values{"hosts": {"127.0.0.1 h1\r\n127.0.0.2 h2\r\n127.0.0.3 h3\r\n"}, "type": {"FileConf"}, "memory": {"8"}, "cpu": {"4"},
		"folder": {"/srv/shared/"}, "bridge0": {"br0"}, "ip0": {"10.0.0.20"}, "mask0": {"255.255.255.0"}, "gateway0": {"10.0.0.1"},
		"mgmt": {"0"}, "route": {"0"}, "chrony": {"10.0.0.1, 10.0.0.2"}, "dns": {"10.0.0.1"}, "port": {"1"}}
}

// wellPair is a pair's form in which nothing is wrong.
func wellPair() url.Values {
	return url.Values{"peer": {"127.0.0.2"}, "vip": {"10.0.0.9/24"}, "arbiter": {"quorum"}, "arbiter-quorum": {"127.0.0.3"}, "hosts": {"4"},
		"vms": {"20"}, "port": {"1"}}
}

// TestWhatIsWrongStandsAtItsField: each wrong input is refused at the field that has it, and nothing is begun.
func TestWhatIsWrongStandsAtItsField(t *testing.T) {
	x := newRig(t)
	b := x.inside(t)
	const evil = `<script>alert(1)</script>`
	for _, c := range []struct {
		path, field, value string
		at, want           string // the field at which it stands; "": the same
	}{
		{"/cluster", "hosts", "", "", "want an odd number of nodes"},
		{"/cluster", "hosts", "127.0.0.1 h1\n127.0.0.1 h2\n127.0.0.3 h3", "", "Node"},
		{"/cluster", "hosts", "one\ntwo\nthree", "", "IP"},
		{"/cluster", "hosts", evil + "\n" + evil + "\n" + evil, "", "Node"},
		{"/cluster", "memory", "much", "", `value "much": want a number from`},
		{"/cluster", "memory", "-1", "", "want a number from"},
		{"/cluster", "cpu", "99999999999999999999", "", "want a number from"},
		{"/cluster", "folder", "../x", "", "want an absolute dir"},
		{"/cluster", "ip0", "300.1.1.1", "", "Network[0].Ipaddr"},
		{"/cluster", "gateway0", evil, "", "Network[0].Gateway"},
		{"/cluster", "chrony", "", "", "ChronyServers"},
		{"/cluster", "port", "65536", "", "want a number from 1 to 65535"},
		{"/cluster", "key", "no key", "", "private key"},
		{"/cluster", "text", "Node: [", "", "line"},
		{"/cluster", "text", `{"Type": "PairConf"}`, "", "Type"},
		{"/pair", "peer", "", "", "it is missing"},
		{"/pair", "peer", "h2", "", "want an IP address"},
		{"/pair", "vip", evil, "", "want ADDRESS/LENGTH"},
		{"/pair", "arbiter", "", "arbiter-oracle", ""},
		{"/pair", "arbiter", "oracle", "arbiter-oracle", ""},
		{"/pair", "arbiter-quorum", "10.0.0.1,10.0.0.2", "", "want quorum:IP"},
		{"/pair", "arbiter", "fence", "fencing", "--fencing is missing"},
		{"/pair", "hosts", "0", "", "want a number from 1"},
		{"/pair", "vms", "-1", "", "want a number from 0"},
		{"/pair", "db", "none", "", "want a number from"},
		{"/pair", "device", "sdb", "", "want the path of a disk"},
		{"/pair", "second", "10.0.1.1", "", "want two addresses"},
		{"/pair", "version", "etc/version", "", "want an absolute path"},
		{"/pair", "unmanaged", "probe", "", "want an absolute path"},
		{"/pair", "group", "Nodes: [a, b]", "", "Nodes"},
		{"/pair", "fencing", "- a", "", ""},
		{"/pair", "settings", "host: h9", "", "host"},
	} {
		form := map[string]url.Values{"/cluster": well(), "/pair": wellPair()}[c.path]
		form.Set(c.field, c.value)
		form.Set("password", "opensesame-"+c.field)
		code, _, body := x.post(t, b, c.path, form)
		at := c.at
		if at == "" {
			at = c.field
		}
		if code != http.StatusUnprocessableEntity || x.now() != nil || !strings.Contains(body, "Nothing was begun.") {
			t.Fatalf("%s %s=%q: %d, begun: %t", c.path, c.field, c.value, code, x.now() != nil)
			continue
		}
		if strings.Contains(body, evil) || strings.Contains(body, "opensesame") {
			t.Errorf("%s %s=%q: the page has what was typed as it is", c.path, c.field, c.value)
		}
		if said := saidAt(body, at); c.want != "" && !strings.Contains(said, c.want) {
			t.Errorf("%s %s=%q: at %s it says %q, want %q", c.path, c.field, c.value, at, said, c.want)
		}
	}
}

// saidAt is what a page says at a field.
func saidAt(body, field string) string {
	_, rest, _ := strings.Cut(body, ` name="`+field+`"`)
	rest, _, _ = strings.Cut(rest, " name=\"")
	return html.UnescapeString(rest)
}

// TestAFormIsAConfiguration: what a configuration has of the form's fields comes back, whatever kind it is.
func TestAFormIsAConfiguration(t *testing.T) {
	for _, kind := range []string{config.FileConf, config.CephConf} {
		for range 20 {
			sample, err := config.Sample(kind, strings.NewReader(strings.Repeat("some random bytes", 3)))
			try.Must(t, err)
			cl, faults, _ := config.Parse("sample.json", sample, config.Options{})
			if len(faults) > 0 {
				t.Fatal(faults)
			}
			if got := fromConfig(cl).config(); !reflect.DeepEqual(got, cl) && string(got.JSON()) != string(cl.JSON()) {
				t.Errorf("%s:\n%s\nwant\n%s", kind, got.JSON(), cl.JSON())
			}
		}
	}
}

// fake is a plan that does what a test says.
type fake struct {
	finds  []install.Finding
	checks error
	makes  chan error // its end
	begun  chan struct{}
	closed int
}

func (f *fake) title() string               { return "A fake" }
func (f *fake) form() string                { return "/cluster" }
func (f *fake) hosts() []install.Host       { return nil }
func (f *fake) parts() []string             { return []string{"one", "two"} }
func (f *fake) consequences(*view) []string { return []string{"Nothing <b>at all</b>."} }
func (f *fake) word() string                { return "CONFIRM" }
func (f *fake) close() error                { f.closed++; return nil }

func (f *fake) check(_ context.Context, w *work) error {
	w.found(f.finds)
	return f.checks
}

func (f *fake) make(ctx context.Context, w *work) error {
	w.part()
	w.tell("<h1>", "files")
	f.begun <- struct{}{}
	select {
	case err := <-f.makes:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reaches waits for a stage.
func (w *work) reaches(t *testing.T, want stage) state {
	t.Helper()
	for {
		s, changed := w.now()
		if s.Stage == want {
			return s
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatalf("stage %d: want %d", s.Stage, want)
		}
	}
}

// rests waits until nothing runs.
func (w *work) rests() {
	w.mu.Lock()
	idle := w.idle
	w.mu.Unlock()
	<-idle
}

// TestWorkGoesStepByStep: what was not checked is not made, nor without the word, nor twice; what was stopped or failed can be
// checked again and goes on.
func TestWorkGoesStepByStep(t *testing.T) {
	kind := func(err error, want fail.Kind) {
		t.Helper()
		var e *fail.Error
		if !errors.As(err, &e) || e.Kind != want {
			t.Errorf("%v: want one of kind %s", err, want)
		}
	}
	f := &fake{makes: make(chan error), begun: make(chan struct{}),
		finds: []install.Finding{{Node: "h1", Check: "disk", Result: install.Fail}}}
	w := newWork(t.Context(), f, remote.Options{})
	kind(w.do("CONFIRM"), fail.Refused)
	try.Must(t, w.connect())
	w.reaches(t, refused)
	w.rests()
	kind(w.do("CONFIRM"), fail.Refused)
	kind(w.trust(prints(nil)), fail.Refused)
	f.finds = []install.Finding{{Check: "disk", Result: install.Warn}}
	try.Must(t, w.again())
	w.reaches(t, checked)
	w.rests()
	for _, word := range []string{"", "confirm", "CONFIRM "} {
		kind(w.do(word), fail.Invalid)
	}
	try.Must(t, w.do("CONFIRM"))
	<-f.begun
	kind(w.do("CONFIRM"), fail.Refused)
	kind(w.again(), fail.Refused)
	<-w.interrupt()
	if s := w.reaches(t, failed); s.Part != 1 || fail.ExitCode(s.Err) != fail.ExitCode(fail.Errorf(fail.Canceled, "")) {
		t.Errorf("stopped: %+v", s)
	}
	try.Must(t, w.again())
	if s := w.reaches(t, checked); s.Part != 0 || s.Err != nil {
		t.Errorf("checked again: %+v", s)
	}
	w.rests()
	try.Must(t, w.do("CONFIRM"))
	<-f.begun
	f.makes <- errors.New("the disk is full")
	w.reaches(t, failed)
	w.rests()
	try.Must(t, w.again())
	w.reaches(t, checked)
	w.rests()
	try.Must(t, w.do("CONFIRM"))
	<-f.begun
	f.makes <- nil
	w.reaches(t, made)
	w.rests()
	kind(w.do("CONFIRM"), fail.Refused)
	kind(w.again(), fail.Refused)
	w.end()
	if f.closed != 1 {
		t.Errorf("closed %d times", f.closed)
	}
}

// TestPagesOfAWork: the page of each stage has its way on, the stream tells of changes, and the first run does not end while
// something is made.
func TestPagesOfAWork(t *testing.T) {
	x := newRig(t)
	b := x.inside(t)
	if code, to, _ := x.get(t, b, "/work"); code != http.StatusSeeOther || to != "/" {
		t.Errorf("no work: %d, to %s", code, to)
	}
	f := &fake{makes: make(chan error), begun: make(chan struct{}),
		finds: []install.Finding{{Node: "<h1>", Check: "disk", Result: install.Warn, Finding: "<small>", Remedy: "a larger one"}}}
	w := newWork(t.Context(), f, remote.Options{})
	x.mu.Lock()
	x.work = w
	x.mu.Unlock()
	try.Must(t, w.connect())
	w.reaches(t, checked)
	w.rests()
	_, _, body := x.get(t, b, "/work")
	for _, want := range []string{"can be made", "Nothing &lt;b&gt;at all", "&lt;small&gt;", "a larger one", `name="word"`} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is not in %s", want, body)
		}
	}
	if code, _, body := x.post(t, b, "/work/make", url.Values{"word": {"yes"}}); code != http.StatusBadRequest ||
		!strings.Contains(body, "nothing was changed") {
		t.Errorf("another word: %d", code)
	}
	if code, to, _ := x.post(t, b, "/work/make", url.Values{"word": {"CONFIRM"}}); code != http.StatusSeeOther || to != "/work" {
		t.Errorf("the word: %d, to %s", code, to)
	}
	<-f.begun
	r, err := b.Get(x.URL + "/live/work")
	try.Must(t, err)
	buf := make([]byte, 1<<16)
	n, err := r.Body.Read(buf)
	try.Must(t, errors.Join(err, r.Body.Close()))
	if part := string(buf[:n]); !strings.HasPrefix(part, "event: part\ndata: ") || !strings.Contains(part, "&lt;h1&gt;") ||
		!strings.Contains(part, "under way") {
		t.Errorf("the stream: %s", part)
	}
	if code, _, _ := x.post(t, b, "/work/finish", nil); code != http.StatusConflict {
		t.Errorf("the first run ends in the midst of it: %d", code)
	}
	if code, _, _ := x.post(t, b, "/cluster", well()); code != http.StatusConflict {
		t.Errorf("another work in the midst of it: %d", code)
	}
	f.makes <- nil
	w.reaches(t, made)
	w.rests()
	if code, _, body := x.post(t, b, "/work/finish", nil); code != http.StatusOK || !strings.Contains(body, "has ended") {
		t.Errorf("the end: %d", code)
	}
	select {
	case <-x.done:
	default:
		t.Error("the first run goes on")
	}
}

// TestServeEnds: it ends with its context, and a work that is under way ends with it.
func TestServeEnds(t *testing.T) {
	cert, print, err := Certificate("h1", nil)
	try.Must(t, err)
	if len(strings.Split(print, ":")) != 32 {
		t.Errorf("fingerprint %s", print)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	try.Must(t, err)
	x := New(Options{Host: "h1", Version: "1", Tell: func(string) {}, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- x.Serve(ctx, ln, cert) }()
	f := &fake{makes: make(chan error), begun: make(chan struct{})}
	w := newWork(ctx, f, remote.Options{})
	x.mu.Lock()
	x.work = w
	x.mu.Unlock()
	try.Must(t, w.connect())
	w.reaches(t, checked)
	w.rests()
	try.Must(t, w.do("CONFIRM"))
	<-f.begun
	cancel()
	try.Must(t, <-ended)
	if s, _ := w.now(); s.Stage != failed || f.closed != 1 {
		t.Errorf("stage %d, closed %d times", s.Stage, f.closed)
	}
}

// FuzzForms: no form, however odd, has a plan that can not be described.
func FuzzForms(f *testing.F) {
	for _, v := range []url.Values{well(), wellPair()} {
		f.Add(v.Encode())
	}
	f.Fuzz(func(t *testing.T, body string) {
		q := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		form, err := read(q)
		if err != nil {
			return
		}
		cl := form.config()
		if _, faults, _ := config.Parse("c.json", cl.JSON(), config.Options{}); len(faults) == 0 {
			if again := fromConfig(cl).config(); !slices.Equal(again.Node, cl.Node) || again.ImageFolder != cl.ImageFolder {
				t.Errorf("%+v: %+v", cl, again)
			}
			for _, x := range faults {
				_ = fieldOf(x.Path)
			}
		}
		s := form.setup()
		if o, err := s.Options(); err == nil && len(form.faults) == 0 {
			if _, err := s.Plan(&o, 1); err != nil {
				form.fails(err, pairFields)
			}
		}
	})
}
