package cluster

import (
	"slices"
	"time"
)

// Role says what somebody may do. Each may also do what the one before may.
type Role string

// Roles.
const (
	Viewer   Role = "viewer"   // look
	Operator Role = "operator" // start, stop, move, empty hosts, upgrade
	Admin    Role = "admin"    // change the configuration, users, certificates and passwords
)

// Roles are all of them, the least first.
var Roles = []Role{Viewer, Operator, Admin}

// May reports whether a role may do what another one may.
func (r Role) May(what Role) bool {
	have, need := slices.Index(Roles, r), slices.Index(Roles, what)
	return need >= 0 && have >= need
}

// User is a person.
type User struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
	// Once says that the password was made by a program or by another person: it only lets in who gives another one.
	Once    bool      `json:"once,omitempty"`
	Changed time.Time `json:"changed"` // the password, or the role
	By      string    `json:"by"`      // who did
	// Stamp is another one with each password: a session goes on only while it is the one of its login.
	Stamp string `json:"-"`
}

// UserChange is what is asked of a user, who is made where there is none.
type UserChange struct {
	Name        string
	Role        Role   // "": as it is
	NewPassword bool   // a one-time one, also where there is one
	Password    string // chosen by who asks; "": a one-time one where one is needed
}

// Token lets a program in.
type Token struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"` // what it is for
	Role    Role      `json:"role"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	By      string    `json:"by"` // who made it
}
