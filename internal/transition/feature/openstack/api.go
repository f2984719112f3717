// Package openstack tries on a test guest, by the API of OpenStack, what a platform must be able to do with guests,
// reads each back, and puts everything back as it was. What is tried, and in which order, is in package feature.
package openstack

import (
	"cmp"
	"context"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/cloud"
)

// platform is one in the name of the test guest's project.
type platform struct{ *cloud.Cloud }

// meet logs in and finds the services.
func meet(ctx context.Context, getenv func(string) string) (platform, error) {
	c, err := cloud.Meet(ctx, getenv)
	if err != nil {
		return platform{}, err
	}
	if c.Project == "" {
		return platform{}, fail.Errorf(fail.Invalid, "OS_PROJECT_NAME: value %q: want the project of the test guest", getenv("OS_PROJECT_NAME"))
	}
	return platform{c}, nil
}

// server is what Nova tells of a guest.
type server struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Project string `json:"tenant_id"`
	Status  string `json:"status"`
	Task    string `json:"OS-EXT-STS:task_state"`
	Power   power  `json:"OS-EXT-STS:power_state"`
	Host    string `json:"OS-EXT-SRV-ATTR:host"`
	Zone    string `json:"OS-EXT-AZ:availability_zone"`
	Locked  bool   `json:"locked"`
	Key     string `json:"key_name"`
	Flavor  struct {
		ID string `json:"id"`
	} `json:"flavor"`
	Image     image                       `json:"image"`
	Metadata  map[string]string           `json:"metadata"`
	Addresses map[string][]map[string]any `json:"addresses"`
	Volumes   []struct {
		ID string `json:"id"`
	} `json:"os-extended-volumes:volumes_attached"`
	Fault struct {
		Message string `json:"message"`
	} `json:"fault"`
}

// power is what the hypervisor said last, as Nova numbers it.
type power int

// States of power that a guest is wanted in.
const (
	powerOn  power = 1
	powerOff power = 4
)

// String is the word of openstack(1).
func (p power) String() string {
	word := map[power]string{0: "NOSTATE", 1: "Running", 3: "Paused", 4: "Shutdown", 6: "Crashed", 7: "Suspended"}[p]
	return cmp.Or(word, strconv.Itoa(int(p)))
}

// busy says what Nova does with the guest.
func (s *server) busy() string { return cmp.Or(s.Task, "none") }

// image is the ID of a server's image. A server that boots from a volume has "" in its place.
type image string

// UnmarshalJSON reads {"id": "..."} or "".
func (i *image) UnmarshalJSON(text []byte) error {
	*i = ""
	if string(text) == `""` {
		return nil
	}
	var got struct {
		ID string `json:"id"`
	}
	err := json.Unmarshal(text, &got)
	*i = image(got.ID)
	return err
}

func (c platform) server(ctx context.Context, id string) (server, error) {
	var got struct {
		Server server `json:"server"`
	}
	err := cloud.Get(ctx, c.Nova, "servers/"+id, cloud.Base, &got)
	return got.Server, err
}

// named lists the servers of the project with a name. Nova takes it for a regular expression.
func (c platform) named(ctx context.Context, name string) (out []server, err error) {
	var got struct {
		Servers []server `json:"servers"`
	}
	if err := cloud.Get(ctx, c.Nova, "servers/detail?"+url.Values{"name": {"^" + regexpQuote(name) + "$"}}.Encode(),
		cloud.Base, &got); err != nil {
		return nil, err
	}
	for _, s := range got.Servers {
		if s.Name == name {
			out = append(out, s)
		}
	}
	return out, nil
}

// regexpQuote escapes what regular expressions of databases take for more than itself.
func regexpQuote(text string) string {
	var b strings.Builder
	for _, c := range text {
		if strings.ContainsRune(`\.+*?()|[]{}^$`, c) {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// event is one part of an action that Nova has noted.
type event struct {
	Name      string  `json:"event"`
	Result    string  `json:"result"` // Success or Error
	Finish    *string `json:"finish_time"`
	Traceback string  `json:"traceback"`
}

// events are the parts of an action of a server, as far as they have begun.
func (c platform) events(ctx context.Context, id, request string) ([]event, error) {
	var got struct {
		Action struct {
			Events []event `json:"events"`
		} `json:"instanceAction"`
	}
	err := cloud.Get(ctx, c.Nova, "servers/"+id+"/os-instance-actions/"+request, cloud.Base, &got)
	if cloud.Absent(err) { // it is noted when the request is taken, and may be read from another database
		return nil, nil
	}
	return got.Action.Events, err
}
