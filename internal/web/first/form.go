package first

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"holdfast/internal/config"
	"holdfast/internal/install/remote"
	"holdfast/internal/lib/fail"
)

// form is what was typed, and what is wrong with it.
type form struct {
	url.Values
	faults map[string][]string // by field; "" of the whole
	secret map[string]bool     // fields that were filled in, and are not shown again
}

// secrets are the fields of forms that no page shows again.
var secrets = []string{"password", "key", "arbiter-password"}

// read reads what was typed.
func read(q *http.Request) (*form, error) {
	if err := q.ParseForm(); err != nil {
		var long *http.MaxBytesError
		if errors.As(err, &long) {
			return nil, fail.Errorf(fail.Invalid, "form: want at most %d bytes", maxForm)
		}
		return nil, fail.Errorf(fail.Invalid, "read the form: %w", err)
	}
	f := newForm()
	for k, v := range q.PostForm {
		f.Set(k, strings.ToValidUTF8(strings.ReplaceAll(v[0], "\r\n", "\n"), "\ufffd"))
	}
	return f, nil
}

// newForm is one in which nothing was typed.
func newForm() *form {
	return &form{Values: url.Values{}, faults: map[string][]string{}, secret: map[string]bool{}}
}

// wrong notes what is wrong with a field.
func (f *form) wrong(field string, what error) {
	f.faults[field] = append(f.faults[field], what.Error())
}

// flag is how an error begins that is about what a flag of the command line says.
var flag = regexp.MustCompile(`^--([a-z-]+)(:| is missing)`)

// fails notes an error at the field that it is about, as "--peer: value ..." is about peer.
func (f *form) fails(err error, fields map[string]string) {
	what, remedy := err.Error(), ""
	var e *fail.Error
	if errors.As(err, &e) {
		what, remedy = e.Message, e.Remedy
	}
	field := ""
	if m := flag.FindStringSubmatch(what); m != nil {
		field = m[1]
		if other, named := fields[field]; named {
			field = other
		}
		what = strings.TrimPrefix(what, "--"+m[1]+": ")
	}
	f.faults[field] = append(f.faults[field], strings.TrimSuffix(what+"; "+remedy, "; "))
}

// number reads a number of a field; 0 where it has none.
func (f *form) number(field string, least, most int) int {
	text := strings.TrimSpace(f.Get(field))
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		f.wrong(field, fail.Errorf(fail.Invalid, "value %q: want a number from %d to %d", short(text), least, most))
	}
	return n
}

// short is the beginning of a text that may be long.
func short(s string) string { return string([]rune(s)[:min(len([]rune(s)), 60)]) }

// list reads values that spaces, commas or line breaks part.
func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" ,;\n\t", r) })
}

// lines reads values of one line each.
func lines(text string) (out []string) {
	for l := range strings.Lines(text) {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, strings.Join(strings.Fields(l), " "))
		}
	}
	return out
}

// login reads how hosts are reached.
func (f *form) login(known string) remote.Options {
	o := remote.Options{User: strings.TrimSpace(f.Get("user")), Port: f.number("port", 1, 65535), Password: f.Get("password"),
		KnownHosts: known}
	if key := strings.TrimSpace(f.Get("key")); key != "" {
		o.Key = []byte(key + "\n")
	}
	if err := o.Check(); err != nil {
		f.wrong("key", err)
	}
	return o
}

// base reads the settings of all agents.
func (f *form) base() (n config.Node) {
	text := f.Get("settings")
	if strings.TrimSpace(text) == "" {
		return n
	}
	n, faults := config.ParseBase("text", []byte(text))
	if len(faults) > 0 {
		f.wrong("settings", config.Faults(faults))
	}
	return n
}

// shown has what a page may show again.
func (f *form) shown() *form {
	for _, name := range secrets {
		f.secret[name] = f.Get(name) != ""
		f.Del(name)
	}
	return f
}
