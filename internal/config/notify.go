package config

import (
	"fmt"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
)

// Services that take messages.
const (
	Mail     = "mail"
	Webhook  = "webhook"
	Slack    = "slack"
	Teams    = "teams"
	Feishu   = "feishu" // and Lark
	WeCom    = "wecom"
	DingTalk = "dingtalk"
	Telegram = "telegram"
)

// Services are all of them.
var Services = []string{Mail, Webhook, Slack, Teams, Feishu, WeCom, DingTalk, Telegram}

// Notifications say who is told of events.
type Notifications struct {
	Language  string     `json:"Language,omitempty"` // of messages: en (default) or zh
	Console   string     `json:"Console,omitempty"`  // the URL of the console, which messages name; empty: none
	Receivers []Receiver `json:"Receivers,omitempty"`
}

// Receiver is a person or a group of them, by a service. What is secret stands in a file on each member.
type Receiver struct {
	Name    string `json:"Name"`
	Service string `json:"Service"`
	Server  string `json:"Server,omitempty"` // mail: smtp://HOST:PORT or smtps://HOST:PORT
	User    string `json:"User,omitempty"`   // mail: of the login; empty: none
	From    string `json:"From,omitempty"`   // mail: the sender's address
	To      string `json:"To,omitempty"`     // mail: an address; telegram: a chat
	// file:/PATH. Mail: the password. Telegram: the bot's token. Others: the URL that the service shows, and in a second line
	// the key of the signature (feishu, dingtalk) or the value of the header Authorization (webhook).
	Credential string              `json:"Credential,omitempty"`
	CA         string              `json:"CA,omitempty"`       // file with the authorities that vouch for the service; empty: those of the system
	Events     []cluster.EventKind `json:"Events,omitempty"`   // kinds; none: all
	Severity   cluster.Severity    `json:"Severity,omitempty"` // the least one; default warning
	Quiet      string              `json:"Quiet,omitempty"`    // HH:MM-HH:MM, in which only critical events are sent
	Zone       string              `json:"Zone,omitempty"`     // of Quiet, such as Asia/Shanghai; empty: that of the host
	Group      Duration            `json:"Group,omitzero"`     // what happens within it is one message; default 30s
}

// DefaultGroup is the grouping interval unless the configuration says otherwise.
const DefaultGroup = 30 * time.Second

// Bounds of receivers.
const (
	maxReceivers = 32
	maxReceiver  = 40 // characters of a name
	maxAddress   = 254
)

// File is the path of the file with the secret; "": there is none.
func (r Receiver) File() string { return strings.TrimPrefix(r.Credential, "file:") }

// notifications checks who is told of events.
func (c *checker) notifications(n *Notifications) {
	if n == nil {
		return
	}
	if n.Language != "" && n.Language != "en" && n.Language != "zh" {
		c.fault("Notifications.Language", n.Language, "want en or zh")
	}
	if n.Console != "" && !isWebPage(n.Console) {
		c.fault("Notifications.Console", n.Console, "want https://HOST or https://HOST:PORT, the address of the console")
	}
	if len(n.Receivers) > maxReceivers {
		c.fault("Notifications.Receivers", fmt.Sprintf("%d receivers", len(n.Receivers)), fmt.Sprintf("want at most %d", maxReceivers))
		return
	}
	seen := map[string]int{}
	for i, r := range n.Receivers {
		p := index("Notifications.Receivers", i)
		name := strings.ToLower(r.Name)
		if j, dup := seen[name]; dup {
			c.fault(p+".Name", r.Name, fmt.Sprintf("names must be unique; %s has the same", index("Notifications.Receivers", j)))
		} else if name == "" || len(name) > maxReceiver || strings.Trim(r.Name, labelRunes) != "" || strings.Contains(name, "/") {
			c.fault(p+".Name", r.Name, fmt.Sprintf("want a name of 1 to %d letters, digits, -, _ and .", maxReceiver))
		}
		seen[name] = i
		c.receiver(p, r)
		c.told(p, r)
	}
}

// receiver checks where messages go.
func (c *checker) receiver(p string, r Receiver) {
	ofMail := []struct{ name, value string }{{"Server", r.Server}, {"User", r.User}, {"From", r.From}}
	switch {
	case !slices.Contains(Services, r.Service):
		c.fault(p+".Service", r.Service, "want one of "+strings.Join(Services, ", "))
		return
	case r.Service == Mail:
		c.mail(p, r)
	default:
		for _, f := range ofMail {
			if f.value != "" {
				c.fault(p+"."+f.name, f.value, "allowed only with Service mail")
			}
		}
		c.credential(p+".Credential", r.Credential)
	}
	switch {
	case r.Service == Telegram && !isChat(r.To):
		c.fault(p+".To", r.To, "want the number of a chat, or @NAME of a channel")
	case r.Service != Telegram && r.Service != Mail && r.To != "":
		c.fault(p+".To", r.To, "allowed only with Service mail or telegram: of the others the URL in the file of Credential says where")
	}
	if r.CA != "" && !isAbsolute(r.CA) {
		c.fault(p+".CA", r.CA, "want the absolute path of a file with certificates on the hosts, or nothing")
	}
}

func (c *checker) mail(p string, r Receiver) {
	u, err := url.Parse(r.Server)
	if err != nil || u.Scheme != "smtp" && u.Scheme != "smtps" || !isHostPort(u.Host, false) || u.User != nil ||
		u.Path+u.RawQuery+u.Fragment != "" {
		c.fault(p+".Server", r.Server, "want smtp://HOST:PORT (with STARTTLS) or smtps://HOST:PORT, without name and password")
	}
	for _, a := range []struct{ name, value string }{{"From", r.From}, {"To", r.To}} {
		if !isMailAddress(a.value) {
			c.fault(p+"."+a.name, a.value, "want one address, such as ops@example.com; several people need a list of the mail "+
				"server, or a receiver each")
		}
	}
	switch {
	case r.User == "" && r.Credential != "":
		c.fault(p+".Credential", "(not shown)", "allowed only with User: without a login there is no password")
	case r.User != "":
		c.credential(p+".Credential", r.Credential)
	}
	if len(r.User) > maxAddress || strings.ContainsFunc(r.User, func(c rune) bool { return c < ' ' }) {
		c.fault(p+".User", r.User, "want a name of at most 254 characters, in one line")
	}
}

// told checks what a receiver is told, and when.
func (c *checker) told(p string, r Receiver) {
	kinds := cluster.EventKinds()
	for i, k := range r.Events {
		if !slices.Contains(kinds, k) {
			var names []string
			for _, k := range kinds {
				names = append(names, string(k))
			}
			c.fault(index(p+".Events", i), string(k), "want one of "+strings.Join(names, ", "))
		}
	}
	if r.Severity != "" && !slices.Contains(cluster.Severities, r.Severity) {
		c.fault(p+".Severity", string(r.Severity), "want info, warning or critical")
	}
	if _, _, ok := QuietTime(r.Quiet); !ok {
		c.fault(p+".Quiet", r.Quiet, `want HH:MM-HH:MM, such as "22:00-07:00", two different times`)
	}
	if _, err := time.LoadLocation(r.Zone); err != nil || r.Zone == "Local" {
		c.fault(p+".Zone", r.Zone, "want a time zone, such as Europe/Berlin or Asia/Shanghai, or nothing for that of the host")
	}
	if r.Zone != "" && r.Quiet == "" {
		c.fault(p+".Zone", r.Zone, "allowed only with Quiet")
	}
}

// QuietTime reads a quiet time, in minutes of the day; "" is none: 0 and 0.
func QuietTime(s string) (from, to int, ok bool) {
	if s == "" {
		return 0, 0, true
	}
	a, b, both := strings.Cut(s, "-")
	first, err := time.Parse("15:04", a)
	second, err2 := time.Parse("15:04", b)
	if !both || len(a) != 5 || len(b) != 5 || err != nil || err2 != nil || a == b {
		return 0, 0, false
	}
	return first.Hour()*60 + first.Minute(), second.Hour()*60 + second.Minute(), true
}

func isWebPage(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.User == nil && isHostPort(u.Host, false) &&
		strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && u.Fragment == ""
}

func isMailAddress(s string) bool {
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s && len(s) <= maxAddress && !strings.ContainsAny(s, " \t\r\n\"<>,+")
}

// isChat reports whether a text names a chat of Telegram.
func isChat(s string) bool {
	number := strings.TrimPrefix(s, "-")
	name, named := strings.CutPrefix(s, "@")
	return len(s) <= 64 && (number != "" && strings.Trim(number, "0123456789") == "" ||
		named && len(name) > 4 && strings.Trim(name, labelRunes) == "" && !strings.ContainsAny(name, "-./"))
}
