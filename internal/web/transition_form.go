package web

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition"
)

// shape is how a value of a form is typed.
type shape int

const (
	aText  shape = iota
	aTick        // true or false
	aCount       // a whole number
	lines        // a list, one on each line
	pairs        // NAME=VALUE, one on each line
)

// field is a value of the file in the form. Its name there is its path in the file.
type field struct {
	Path  string
	Label string
	Shape shape
	Value string // "yes" of a tick
}

// section is a part of the file, which it may be without.
type section struct {
	Name   string // its field in the file; "" of what each file has
	Title  string
	In     bool
	Fields []field
}

// formed is a file in the form.
type formed struct {
	Sections []section
	Text     string // the file as it was, with what the form does not have
	Commands int    // of stages, which only the text has
}

// formPart is the form, empty.
func formPart(_ context.Context, v *view) (templ.Component, error) {
	return transitionForm(v, formOfFile(v, &transition.File{Format: transition.Format}, "")), nil
}

// formOf shows a text as a form, if it can be read.
func (c *Console) formOf(w http.ResponseWriter, r *http.Request, v *view, d *described) {
	f, err := parsed(d.text)
	if err != nil {
		err = v.preview(r.Context(), d)
		if err == nil { // the agent reads what this program does not
			err = fail.Errorf(fail.Failed, "The text can not be shown as a form.")
		}
		v.Fail(err)
		c.show(w, r, httpCode(err), whole(v, describeEditor(v, d)))
		return
	}
	v.page = transitionFormPage
	c.show(w, r, http.StatusOK, whole(v, transitionForm(v, formOfFile(v, f, d.text))))
}

// parsed reads a text; an empty one is a file without anything.
func parsed(text string) (*transition.File, error) {
	if strings.TrimSpace(text) == "" {
		return &transition.File{Format: transition.Format}, nil
	}
	f, faults := transition.Draft([]byte(text))
	if len(faults) > 0 {
		return nil, fail.Errorf(fail.Invalid, "%w", faults[0])
	}
	return f, nil
}

// fillForm writes what was filled in into a file, and shows it in the editor, checked.
func (c *Console) fillForm(w http.ResponseWriter, r *http.Request, v *view) {
	err := c.editing(r, v, transitionFormPage, errLongFile)
	if err != nil {
		c.fails(w, r, err)
		return
	}
	d := &described{}
	f, err := parsed(sent(r, "text"))
	if err == nil {
		err = fill(f, r.PostForm)
	}
	if err == nil {
		var text []byte
		text, err = f.Write()
		d.text = string(text)
	}
	if err != nil {
		c.trouble(w, r, v, err)
		return
	}
	v.page = describePage
	code := http.StatusOK
	if err := v.preview(r.Context(), d); err != nil {
		v.Fail(err)
		code = httpCode(err)
	}
	c.show(w, r, code, whole(v, describeEditor(v, d)))
}

// formOfFile are the sections of a form, with the values of a file.
func formOfFile(v *view, f *transition.File, text string) formed {
	out := formed{Text: text}
	for _, s := range f.Stages.All() {
		out.Commands += len(s.Before) + len(s.After)
	}
	file := reflect.ValueOf(f).Elem()
	general := section{Title: v.T("What it is"), In: true}
	for i := range file.NumField() {
		name, at := jsonName(file.Type().Field(i)), file.Field(i)
		switch {
		case name == "format":
		case name == "stages":
			s := section{Title: v.T("What a person is asked"), In: true}
			for _, x := range f.Stages.All() {
				s.Fields = append(s.Fields, field{Path: "stages." + x.Name + ".confirm", Value: x.Confirm,
					Label: v.T("Before the stage") + colon(v) + stageTitle(v, x.Name)})
			}
			out.Sections = append(out.Sections, s)
		case at.Kind() == reflect.Pointer:
			s := section{Name: name, Title: sectionTitle(v, name), In: !at.IsNil()}
			of := at
			if at.IsNil() {
				of = reflect.New(at.Type().Elem())
			}
			walkFields(of.Elem(), name, func(path string, x reflect.Value) { s.Fields = append(s.Fields, fieldOf(v, path, x)) })
			out.Sections = append(out.Sections, s)
		default:
			general.Fields = append(general.Fields, fieldOf(v, name, at))
		}
	}
	out.Sections = append([]section{general}, out.Sections...)
	return out
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// walkFields visits each value of a section.
func walkFields(v reflect.Value, path string, visit func(path string, v reflect.Value)) {
	for i := range v.NumField() {
		at := path + "." + jsonName(v.Type().Field(i))
		if x := v.Field(i); x.Kind() == reflect.Struct {
			walkFields(x, at, visit)
		} else {
			visit(at, x)
		}
	}
}

// fieldOf is a value as it is typed.
func fieldOf(v *view, path string, x reflect.Value) field {
	f := field{Path: path, Label: fieldTitle(v, path)}
	switch x := x.Interface().(type) {
	case bool:
		f.Shape = aTick
		if x {
			f.Value = "yes"
		}
	case int:
		f.Shape = aCount
		if x != 0 {
			f.Value = strconv.Itoa(x)
		}
	case []string:
		f.Shape, f.Value = lines, strings.Join(x, "\n")
	case map[string]string:
		f.Shape = pairs
		for _, k := range slices.Sorted(maps.Keys(x)) {
			f.Value += k + "=" + x[k] + "\n"
		}
	default:
		f.Value = fmt.Sprint(x)
	}
	return f
}

// fill puts what was filled in into a file.
func fill(f *transition.File, form url.Values) error {
	f.Format = transition.Format
	file := reflect.ValueOf(f).Elem()
	for i := range file.NumField() {
		name, at := jsonName(file.Type().Field(i)), file.Field(i)
		var err error
		switch {
		case name == "format":
		case name == "stages":
			for _, s := range f.Stages.All() {
				s.Confirm = strings.TrimSpace(form.Get("stages." + s.Name + ".confirm"))
			}
		case at.Kind() != reflect.Pointer:
			err = set(at, name, form)
		case form.Get("section."+name) != "yes":
			at.SetZero()
		default:
			at.Set(reflect.New(at.Type().Elem()))
			walkFields(at.Elem(), name, func(path string, x reflect.Value) { err = cmp.Or(err, set(x, path, form)) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// set puts a value that was filled in into its place.
func set(x reflect.Value, path string, form url.Values) error {
	text := strings.TrimSpace(strings.ReplaceAll(form.Get(path), "\r\n", "\n"))
	var all []string
	for l := range strings.SplitSeq(text, "\n") {
		if l = strings.TrimSpace(l); l != "" {
			all = append(all, l)
		}
	}
	switch x.Kind() {
	case reflect.Bool:
		x.SetBool(text == "yes")
	case reflect.Int:
		if text == "" {
			x.SetInt(0)
			return nil
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return fail.Errorf(fail.Invalid, "%s: value %.20q: want a whole number", path, text)
		}
		x.SetInt(int64(n))
	case reflect.Slice:
		x.Set(reflect.ValueOf(all))
	case reflect.Map:
		m := map[string]string{}
		for _, l := range all {
			name, value, is := strings.Cut(l, "=")
			if !is {
				return fail.Errorf(fail.Invalid, "%s: value %.70q: want NAME=VALUE on each line", path, l)
			}
			m[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
		x.Set(reflect.Zero(x.Type()))
		if len(m) > 0 {
			x.Set(reflect.ValueOf(m))
		}
	default:
		x.SetString(text)
	}
	return nil
}

// sectionTitle is what a section is called for people.
func sectionTitle(v *view, name string) string {
	switch name {
	case "platform":
		return v.T("Both platforms")
	case "databases":
		return v.T("Databases")
	case "network":
		return v.T("Network")
	case "config":
		return v.T("Files of the hosts")
	case "upgrade":
		return v.T("Software of the hosts")
	case "nova":
		return v.T("Nova, told of hosts and guests")
	case "features":
		return v.T("Features, tried on test guests")
	}
	return name
}

// fieldTitle is what a value of the file is called for people.
func fieldTitle(v *view, path string) string {
	switch path {
	case "name":
		return v.T("Name, for people")
	case "host":
		return v.T("Host whose agent does the work; files that are named are there")
	case "platform.file":
		return v.T("File for what the old platform has")
	case "platform.source":
		return v.T("Login of the old platform: an openrc file")
	case "platform.target":
		return v.T("Login of the new platform: an openrc file")
	case "databases.profile":
		return v.T("Profile, such as openstack-liberty-zed")
	case "databases.mapping":
		return v.T("Or a file of the mapping")
	case "databases.ids":
		return v.T("Directory of the files of IDs")
	case "databases.source":
		return v.T("Old server, such as /?option-file=/etc/holdfast/old.cnf")
	case "databases.target":
		return v.T("New server, such as /?option-file=/etc/holdfast/new.cnf")
	case "databases.sourceDB":
		return v.T("Databases with another name on the old server: NAME=THERE, one on each line")
	case "databases.targetDB":
		return v.T("Databases with another name on the new server: NAME=THERE, one on each line")
	case "databases.skip":
		return v.T("Tables that are left out: DATABASE.TABLE, one on each line")
	case "databases.leaveOutOrphans":
		return v.T("Leave out rows that refer to rows which are gone")
	case "databases.follow":
		return v.T("The old platform works on until the cut-over")
	case "databases.novaConf":
		return v.T("nova.conf of the new platform, whose own code compares")
	case "network.file":
		return v.T("File for the network between the two")
	case "network.source.endpoint":
		return v.T("Old Neutron: its URL")
	case "network.source.openrc":
		return v.T("Login to the old Neutron: an openrc file")
	case "network.source.db":
		return v.T("Or the old Neutron's database: a server")
	case "network.source.dbName":
		return v.T("And the name of that database")
	case "network.target.endpoint":
		return v.T("New Neutron: its URL")
	case "network.target.openrc":
		return v.T("Login to the new Neutron: an openrc file")
	case "network.target.db":
		return v.T("The new Neutron's database: a server")
	case "network.target.dbName":
		return v.T("Name of the new Neutron's database")
	case "network.jobs":
		return v.T("Requests at once")
	case "network.leaveOut":
		return v.T("What may be left out, such as quota, one on each line")
	case "network.reserveDHCP":
		return v.T("The new DHCP agents take the ports of the old ones")
	case "network.hosts":
		return v.T("Each port is plugged as its host has it")
	case "config.dir":
		return v.T("Directory of the files and templates")
	case "config.cluster":
		return v.T("Cluster, where the directory has several")
	case "upgrade.bundle":
		return v.T("File of the bundle")
	case "upgrade.flags", "features.flags":
		return v.T("Flags of the command, one word on each line")
	case "nova.manage":
		return v.T("nova-manage, or what runs it: one word on each line")
	case "features.guests":
		return v.T("Test guests: a name or UUID on each line")
	}
	return path
}
