package web

import (
	"encoding/csv"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
)

const listShown = 100 // of a list, on one page

// filter says which events are asked for; what is empty does not count.
type filter struct {
	Words string // all of them stand in what is shown of it
	Kind  cluster.EventKind
	Host  cluster.HostID // that it is about, leads to, or was told by
}

// filterOf is that of an address.
func filterOf(v *view) filter {
	return filter{Words: strings.TrimSpace(v.query("q")), Kind: cluster.EventKind(v.query("kind")), Host: cluster.HostID(v.query("host"))}
}

// of are the events that are asked for, newest first.
func (f filter) of(events []cluster.Event) []cluster.Event {
	return slices.DeleteFunc(newestOf(events, len(events)), func(e cluster.Event) bool {
		text := strings.ToLower(string(e.Kind) + " " + e.Sentence())
		return f.Kind != "" && e.Kind != f.Kind ||
			f.Host != "" && !slices.Contains([]cluster.HostID{e.Host, e.To, e.By}, f.Host) ||
			slices.ContainsFunc(strings.Fields(strings.ToLower(f.Words)), func(w string) bool { return !strings.Contains(text, w) })
	})
}

// newest are the first n of those.
func (f filter) newest(events []cluster.Event, n int) []cluster.Event {
	return first(f.of(events), n)
}

// url is a path with this filter.
func (f filter) url(path string) templ.SafeURL {
	q := url.Values{}
	for k, x := range map[string]string{"q": f.Words, "kind": string(f.Kind), "host": string(f.Host)} {
		if x != "" {
			q.Set(k, x)
		}
	}
	if len(q) == 0 {
		return templ.SafeURL(path)
	}
	return templ.SafeURL(path + "?" + q.Encode())
}

// kinds are those of events, each once, by name.
func kinds(events []cluster.Event) []cluster.EventKind {
	var out []cluster.EventKind
	for _, e := range events {
		out = append(out, e.Kind)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// pageNumber is the part of a list that an address asks for, from 1; what is no number is the first.
func pageNumber(v *view) int {
	n, _ := strconv.Atoi(v.query("page"))
	return min(max(n, 1), 1_000_000)
}

// pagesOf is how many parts a list has.
func pagesOf(total int) int { return max(1, (total+listShown-1)/listShown) }

// paged is the part of a list that an address asks for: its number, of how many.
func paged[T any](v *view, all []T) (part []T, page, pages int) {
	pages = pagesOf(len(all))
	page = min(pageNumber(v), pages)
	return all[(page-1)*listShown : min(page*listShown, len(all))], page, pages
}

// clockOf is a time of a day, with the day where that is not today.
func clockOf(t, now time.Time) string {
	if t, now = t.Local(), now.Local(); t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format("01-02 " + time.TimeOnly)
}

// pageURL is the address of another part of the list that is shown.
func pageURL(v *view, page int) templ.SafeURL {
	q := v.r.URL.Query()
	q.Set("page", strconv.Itoa(page))
	return templ.SafeURL(v.Path + "?" + q.Encode())
}

// eventsFile answers with the events that are asked for, as a file.
func (c *Console) eventsFile(w http.ResponseWriter, r *http.Request, v *view) {
	if form := v.arg("form"); form != "csv" && form != "json" {
		c.notFound(w, r, v)
		return
	}
	c.live.look(r.Context())
	c.live.fill(v)
	events := filterOf(v).of(v.Events)
	name := "events-" + time.Now().UTC().Format("20060102T150405Z")
	if v.arg("form") == "csv" {
		file(w, name+".csv", "text/csv; charset=utf-8")
		out := csv.NewWriter(w)
		rows := [][]string{{"time", "kind", "what"}}
		for _, e := range events {
			rows = append(rows, []string{e.Time.UTC().Format(time.RFC3339Nano), csvText(string(e.Kind)), csvText(told.Clean(e.Sentence()))})
		}
		if err := out.WriteAll(rows); err != nil {
			c.Log.Debug("console: a file was not taken", "path", r.URL.Path, "err", err)
		}
		return
	}
	file(w, name+".json", "application/json")
	if err := json.NewEncoder(w).Encode(events); err != nil {
		c.Log.Debug("console: a file was not taken", "path", r.URL.Path, "err", err)
	}
}

// csvText is a field that no spreadsheet takes for a formula.
func csvText(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

// file has the browser keep what follows as a file.
func file(w http.ResponseWriter, name, kind string) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
}
