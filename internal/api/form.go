package api

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/inventory"
	"holdfast/internal/job"
	"holdfast/internal/transition"
	"holdfast/internal/transition/hostconf"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
)

// Form is how a field of a message stands in JSON, where it has the name and the form that it has in the domain: what
// commands print with -o json.
type Form struct {
	Name string // "" of one whose own fields stand in its place
	Kind FormKind
	Omit bool // it is left out when it is zero

	read  func(text string) (protoreflect.Value, error) // of FormText
	write func(m protoreflect.Message) (string, error)
}

// FormKind is what a field is in JSON.
type FormKind int

// Kinds of forms.
const (
	FormPlain  FormKind = iota // a number, a text, a list, an object, as the message has it
	FormTime                   // an int64 that is a text by RFC 3339; absent for 0
	FormJSON                   // a text, or bytes, that is JSON itself
	FormInline                 // a message whose fields stand in its place
	FormLists                  // a list of messages with one field each, which is a list of lists
	FormText                   // a message that is a text
)

// Read makes the message of a FormText.
func (f Form) Read(text string) (protoreflect.Value, error) { return f.read(text) }

// Write makes the text of a FormText.
func (f Form) Write(m protoreflect.Message) (string, error) { return f.write(m) }

// Forms are those of a message's fields, by their names; nil for a message that stands for no type of the domain: its
// fields have their own names, and are plain.
func Forms(m protoreflect.MessageDescriptor) map[protoreflect.Name]Form { return forms()[m.FullName()] }

// forms are those of all messages that users' calls carry.
var forms = sync.OnceValue(func() map[protoreflect.FullName]map[protoreflect.Name]Form {
	out := formsOf{}
	for _, pair := range [][2]reflect.Type{
		of[cluster.Status, *apiv1.Status](), of[EventPage, *apiv1.ListEventsResponse](),
		of[EventPage, *apiv1.WatchEventsResponse](), of[Progress, *apiv1.MigrateResponse](),
		of[Version, *apiv1.GetVersionResponse](), of[config.Revision, *apiv1.ConfigRevision](),
		of[cluster.Reset, *apiv1.ResetPasswordResponse](), of[config.Imported, *apiv1.ImportConfigResponse](),
		of[cluster.StoreStatus, *apiv1.GetStoreStatusResponse](), of[cluster.Backup, *apiv1.Backup](),
		of[inventory.Summary, *apiv1.GuestHost](), of[inventory.GuestPage, *apiv1.ListGuestsResponse](),
		of[job.View, *apiv1.Job](), of[job.Output, *apiv1.GetStepOutputResponse](),
		of[transition.Preview, *apiv1.PlanTransitionResponse](), of[transition.Sites, *apiv1.ListSitesResponse](),
		of[hostconf.File, *apiv1.HostFile](),
		of[hostconf.Answer, *apiv1.CompareFilesResponse](), of[hostconf.Order, *apiv1.WriteFilesRequest](),
		of[request.Request, *apiv1.UpgradeRequest](), of[upgrade.Plan, *apiv1.Plan](), of[check.Report, *apiv1.Report](),
		of[request.Begun, *apiv1.RunUpgradeResponse](), of[request.Standing, *apiv1.Standing](),
		of[cluster.PairStatus, *apiv1.PairStatus](), of[cluster.User, *apiv1.User](), of[cluster.Token, *apiv1.Token](),
		of[cluster.Receiver, *apiv1.Receiver](), of[cluster.HostLog, *apiv1.HostLog](), of[cluster.FenceTest, *apiv1.FenceTest](),
	} {
		out.add(pair[0], pair[1])
	}
	ports := new(apiv1.GetHostPortsResponse).ProtoReflect().Descriptor()
	out[ports.FullName()] = map[protoreflect.Name]Form{"ports": {Name: "ports", Kind: FormJSON}}
	return out
})

func of[T any, W proto.Message]() [2]reflect.Type {
	return [2]reflect.Type{reflect.TypeFor[T](), reflect.TypeFor[W]()}
}

type formsOf map[protoreflect.FullName]map[protoreflect.Name]Form

// add adds the forms of a struct and its message, and of those inside. It panics where they do not fit.
func (out formsOf) add(domain, wire reflect.Type) {
	for domain.Kind() == reflect.Pointer {
		domain = domain.Elem()
	}
	m := reflect.New(wire.Elem()).Interface().(proto.Message).ProtoReflect().Descriptor()
	if out[m.FullName()] != nil {
		return
	}
	fields := map[string]protoreflect.FieldDescriptor{}
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		fields[strings.ReplaceAll(string(f.Name()), "_", "")] = f
	}
	types := map[string]reflect.StructField{}
	for _, f := range sent(wire.Elem()) {
		types[strings.ToLower(f.Name)] = f
	}
	made := map[protoreflect.Name]Form{}
	out[m.FullName()] = made
	for _, f := range sent(domain) {
		name := partner(f, types)
		field := fields[name]
		if field == nil {
			panic(fmt.Sprintf("api: %s has no field for %s.%s", m.FullName(), domain, f.Name))
		}
		made[field.Name()] = formOf(f, types[name].Type, field)
		out.inside(f.Type, types[name].Type)
	}
}

// inside adds the forms of what fields hold.
func (out formsOf) inside(domain, wire reflect.Type) {
	for domain.Kind() == reflect.Pointer {
		domain = domain.Elem()
	}
	switch {
	case wire.Kind() == reflect.Pointer && domain.Kind() == reflect.Struct:
		out.add(domain, wire)
	case wire.Kind() == reflect.Slice && domain.Kind() == reflect.Slice, wire.Kind() == reflect.Map:
		out.inside(domain.Elem(), wire.Elem())
	}
}

var textType = reflect.TypeFor[encoding.TextMarshaler]()

func formOf(f reflect.StructField, wire reflect.Type, field protoreflect.FieldDescriptor) Form {
	tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	form := Form{Name: tag, Omit: strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")}
	if tag == "" {
		form.Name = string(field.Name()) // no command prints it
	}
	switch {
	case f.Anonymous && tag == "":
		form.Name, form.Kind = "", FormInline
	case f.Type == timeType && field.Kind() == protoreflect.Int64Kind:
		form.Kind, form.Name = FormTime, strings.TrimSuffix(form.Name, "_ns")
	case f.Type == durationType && !strings.HasSuffix(form.Name, "_ns"):
		form.Name += "_ns"
	case f.Type == rawType:
		form.Kind = FormJSON
	case field.IsList() && field.Message() != nil && f.Type.Elem().Kind() == reflect.Slice:
		form.Kind = FormLists
	case field.Message() != nil && !field.IsList() && !field.IsMap() && (f.Type.Implements(textType) ||
		reflect.PointerTo(f.Type).Implements(textType)):
		form.Kind = FormText
		form.read, form.write = textOf(f.Type, wire)
	}
	return form
}

// textOf converts between the text of a type of the domain and its message.
func textOf(domain, wire reflect.Type) (read func(string) (protoreflect.Value, error), write func(protoreflect.Message) (string, error)) {
	c, err := newCodec(domain, wire)
	if err != nil {
		panic(fmt.Sprintf("api: %v", err))
	}
	read = func(text string) (protoreflect.Value, error) {
		v, w := reflect.New(domain), reflect.New(wire).Elem()
		if domain.Kind() == reflect.Pointer {
			v.Elem().Set(reflect.New(domain.Elem()))
			v = v.Elem()
		}
		if err := v.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
			return protoreflect.Value{}, err
		}
		if domain.Kind() != reflect.Pointer {
			v = v.Elem()
		}
		c.encode(w, v)
		return protoreflect.ValueOfMessage(w.Interface().(proto.Message).ProtoReflect()), nil
	}
	write = func(m protoreflect.Message) (string, error) {
		v := reflect.New(domain).Elem()
		c.decode(v, reflect.ValueOf(m.Interface()))
		text, err := v.Interface().(encoding.TextMarshaler).MarshalText()
		return string(text), err
	}
	return read, write
}
