package demo

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"holdfast/internal/cluster"
)

// maxHold bounds how long the cluster stands at the end.
const maxHold = 24 * time.Hour

// Login is how to come into the console, and into the API.
type Login struct {
	Console  string `json:"console"` // its address
	CA       string `json:"ca"`      // the file of the authority whose certificate it has
	User     string `json:"user"`
	Password string `json:"password"`
	Token    string `json:"token"` // of an admin, for one day
}

// openConsole makes who may use the console, and tells where it is: with JSON in a line of its own, at once.
func (r *runner) openConsole(ctx context.Context, host cluster.HostID) error {
	l := Login{User: "admin", Password: rand.Text()}
	l.Console, l.CA = r.stage.Console(host)
	a := r.stage.Agents()[host]
	if _, _, err := a.SetUser(ctx, cluster.UserChange{Name: l.User, Role: cluster.Admin, Password: l.Password}); err != nil {
		return fmt.Errorf("make the user of the console: %w", err)
	}
	var err error
	if _, l.Token, err = a.CreateToken(ctx, "demo", cluster.Admin, 1); err != nil {
		return fmt.Errorf("make the token of the demo: %w", err)
	}
	r.login = []string{"", "console: " + l.Console + "  user " + l.User + "  password " + l.Password,
		"         its certificate is of " + l.CA}
	if !r.opt.JSON {
		r.screen.Print(r.login...)
		return nil
	}
	data, err := json.Marshal(l)
	if err == nil {
		_, err = r.opt.Out.Write(append(data, '\n'))
	}
	return err
}
