package install

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"holdfast/internal/cluster"
)

// FirstAdmin is the user that an installation makes where there is none.
const FirstAdmin = "admin"

// Console is where the cluster is looked at in a browser, and who may.
type Console struct {
	Addresses []string `json:"addresses"`          // URLs, one a member
	User      string   `json:"user,omitempty"`     // that was made; "": there were users
	Password  string   `json:"password,omitempty"` // one-time
	Wrong     string   `json:"wrong,omitempty"`    // why no user was made, and what to do
}

// console tells where the members serve it, and makes the first user. nil: they serve none.
func (r *run) console(ctx context.Context) *Console {
	out := &Console{}
	for _, h := range Members(r.Config) {
		if port := consolePort(Settings(r.Config, h, r.cluster, r.Base)); port != 0 {
			out.Addresses = append(out.Addresses, "https://"+net.JoinHostPort(h.Addr, strconv.Itoa(port)))
		}
	}
	if len(out.Addresses) == 0 {
		return nil
	}
	r.Tell("", "console")
	var users []cluster.User
	err := r.agent(ctx, r.targets[0], &users, "user", "list")
	if err == nil && len(users) == 0 {
		var made struct {
			Name     string `json:"name"`
			Password string `json:"password"`
		}
		// Its reply may be lost: a user without a password that somebody knows is no harm.
		err = r.agent(ctx, r.targets[0], &made, "user", "add", FirstAdmin, "--role", string(cluster.Admin))
		out.User, out.Password = made.Name, made.Password
	}
	if err != nil {
		out.Wrong = fmt.Sprintf("no user of the console was made: %v; make one: holdfast user add %s --role %s", err, FirstAdmin, cluster.Admin)
	}
	return out
}
