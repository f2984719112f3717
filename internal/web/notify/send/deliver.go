package send

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/format"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/lark"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/slack"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/telegram"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/wecom"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/email/smtp"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/specialized/generic"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"holdfast/internal/config"
)

// parcel is what the library sends: a service, its address in the form of the library, and the text.
type parcel struct {
	service types.Service
	address *url.URL
	text    string
}

// deliver sends a message. It sets the transport of this process.
func deliver(r Request) (said string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), r.within())
	defer cancel()
	g := newGuard(ctx, http.DefaultTransport.(*http.Transport).Clone(), r.silent())
	http.DefaultTransport = g
	p, err := pack(r)
	if err != nil {
		return "", err
	}
	if err := p.service.Initialize(p.address, log.New(io.Discard, "", 0)); err != nil {
		return "", fmt.Errorf("the library does not take the address: %w", err)
	}
	err = p.service.Send(p.text, nil)
	if r.Service == config.Mail {
		if err != nil {
			return "", err
		}
		return "the server has taken the mail", nil
	}
	if g.err != nil {
		return "", g.err
	}
	if said, jerr := judge(r.Service, g.status, g.body); jerr != nil || err == nil {
		return said, jerr
	}
	return "", err
}

// pack makes of a message what the library wants for a service.
func pack(r Request) (parcel, error) {
	whole := r.Subject + "\n" + r.Body
	if r.Service == config.Mail {
		a, err := mailAddress(r)
		return parcel{&smtp.Service{}, a, r.Body + "\n"}, err
	}
	if r.Service == config.Telegram {
		token, key, _ := strings.Cut(r.Secret, ":")
		a := &url.URL{Scheme: telegram.Scheme, User: url.UserPassword(token, key), Host: telegram.Scheme,
			RawQuery: url.Values{"chats": {r.To}, "preview": {"No"}}.Encode()}
		return parcel{&telegram.Service{}, a, whole}, nil
	}
	u, err := url.Parse(r.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return parcel{}, fmt.Errorf("the first line of the file with the secret: want the URL that the service shows, https://HOST/PATH")
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	switch r.Service {
	case config.Slack:
		if u.Host != "hooks.slack.com" || len(parts) != 4 {
			return parcel{}, wrongURL("https://hooks.slack.com/services/T.../B.../...")
		}
		a := &url.URL{Scheme: slack.Scheme, User: url.UserPassword("hook", strings.Join(parts[1:], "-")), Host: "webhook",
			RawQuery: url.Values{"title": {slackText(r.Subject)}}.Encode()}
		return parcel{&slack.Service{}, a, slackText(r.Body)}, nil
	case config.Feishu:
		if u.Host != "open.feishu.cn" && u.Host != "open.larksuite.com" || len(parts) != 5 {
			return parcel{}, wrongURL("https://open.feishu.cn/open-apis/bot/v2/hook/..., or the same at open.larksuite.com")
		}
		a := &url.URL{Scheme: lark.Scheme, Host: u.Host, Path: "/" + parts[4], RawQuery: url.Values{"secret": {r.Secret}}.Encode()}
		return parcel{&lark.Service{}, a, whole}, nil
	case config.WeCom:
		if u.Host != "qyapi.weixin.qq.com" || u.Query().Get("key") == "" {
			return parcel{}, wrongURL("https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=...")
		}
		return parcel{&wecom.Service{}, &url.URL{Scheme: wecom.Scheme, Host: u.Query().Get("key")}, whole}, nil
	case config.DingTalk:
		if u.Host != "oapi.dingtalk.com" || u.Query().Get("access_token") == "" {
			return parcel{}, wrongURL("https://oapi.dingtalk.com/robot/send?access_token=...")
		}
		if r.Secret != "" {
			signDingTalk(u, r)
		}
		return posted(u, nil, map[string]any{"msgtype": "text", "text": map[string]string{"content": whole}})
	case config.Teams:
		return posted(u, nil, card(r))
	case config.Webhook:
		var headers map[string]string
		if r.Secret != "" {
			headers = map[string]string{"Authorization": r.Secret}
		}
		return posted(u, headers, map[string]any{"id": r.ID, "cluster": r.Cluster, "severity": r.Severity, "subject": r.Subject,
			"text": r.Body, "events": r.Events, "test": r.Test, "time": r.Time.UTC()})
	}
	return parcel{}, fmt.Errorf("the service %q is not known", r.Service)
}

func wrongURL(want string) error {
	return fmt.Errorf("the first line of the file with the secret: want the URL that the service shows, %s", want)
}

// slackText has nothing that Slack takes for a link or a mention.
func slackText(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

// signDingTalk adds what proves that the sender has the key.
func signDingTalk(u *url.URL, r Request) {
	at := strconv.FormatInt(r.Time.UnixMilli(), 10)
	h := hmac.New(sha256.New, []byte(r.Secret))
	h.Write([]byte(at + "\n" + r.Secret))
	q := u.Query()
	q.Set("timestamp", at)
	q.Set("sign", base64.StdEncoding.EncodeToString(h.Sum(nil)))
	u.RawQuery = q.Encode()
}

// card is a message to a workflow of Teams. Its runs of text have no markup.
func card(r Request) map[string]any {
	run := func(s, weight string) map[string]any {
		return map[string]any{"type": "RichTextBlock", "inlines": []any{map[string]any{"type": "TextRun", "text": s, "weight": weight}}}
	}
	blocks := []any{run(r.Subject, "Bolder")}
	for l := range strings.Lines(r.Body) {
		blocks = append(blocks, run(strings.TrimSuffix(l, "\n"), "Default"))
	}
	return map[string]any{"type": "message", "attachments": []any{map[string]any{
		"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": nil,
		"content": map[string]any{"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
			"body": blocks, "msteams": map[string]any{"width": "Full"}},
	}}}
}

// posted is a body of JSON for a URL. What the URL asks for goes to the service, and means nothing to the library.
func posted(u *url.URL, headers map[string]string, body any) (parcel, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return parcel{}, fmt.Errorf("write the message: %w", err)
	}
	own := map[string]bool{}
	_, pkr := generic.DefaultConfig()
	for _, k := range pkr.QueryFields() {
		own[k] = true
	}
	q := url.Values{}
	for k, values := range u.Query() {
		switch lower := strings.ToLower(k); {
		case own[lower]:
			k = format.EscapeKey(lower)
		case strings.HasPrefix(k, "@") || strings.HasPrefix(k, "$"):
			return parcel{}, fmt.Errorf("the first line of the file with the secret: its query has a name that begins with %q, which can not be sent", k[:1])
		}
		q[k] = values
	}
	q.Set("@Content-Type", "application/json")
	for k, v := range headers {
		q.Set("@"+k, v)
	}
	if u.Scheme == "http" {
		q.Set("disabletls", "Yes")
	}
	a := *u
	a.Scheme, a.RawQuery = generic.Scheme, q.Encode()
	return parcel{&generic.Service{}, &a, string(b)}, nil
}

// mailAddress is that of a server of mail in the form of the library.
func mailAddress(r Request) (*url.URL, error) {
	u, err := url.Parse(r.URL)
	if err != nil || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Hostname() == "" {
		return nil, fmt.Errorf("the server of the mail: want smtp://HOST:PORT or smtps://HOST:PORT")
	}
	port, encryption := "25", "ExplicitTLS"
	if u.Scheme == "smtps" {
		port, encryption = "465", "ImplicitTLS"
	}
	if u.Port() != "" {
		port = u.Port()
	}
	q := url.Values{"from": {r.From}, "to": {r.To}, "fromname": {"Holdfast"}, "encryption": {encryption}, "clienthost": {"auto"},
		"subject": {mime.QEncoding.Encode("utf-8", r.Subject)}, "timeout": {r.within().String()}}
	a := &url.URL{Scheme: smtp.Scheme, Host: u.Hostname() + ":" + port, Path: "/"}
	if r.User != "" {
		a.User = url.UserPassword(r.User, r.Secret)
		q.Set("requirestarttls", "Yes")
	}
	a.RawQuery = q.Encode()
	return a, nil
}

// shortest is the length from which a part of a secret is taken out of a text.
const shortest = 6

// clean takes secrets out of a text: what a service or the library says may have them.
func clean(r Request, s string) string {
	for _, secret := range append(parts(r.URL), r.Secret, url.QueryEscape(r.Secret), url.PathEscape(r.Secret),
		base64.StdEncoding.EncodeToString([]byte("\x00"+r.User+"\x00"+r.Secret))) {
		if len(secret) >= shortest {
			s = strings.ReplaceAll(s, secret, "(secret)")
		}
	}
	return s
}

// parts are those of a URL that may be secret: the path and the query.
func parts(s string) []string {
	u, err := url.Parse(s)
	if err != nil || s == "" {
		return []string{s}
	}
	out := []string{u.RawQuery, u.Query().Encode()}
	for _, values := range u.Query() {
		for _, v := range values {
			out = append(out, v, url.QueryEscape(v))
		}
	}
	segments := strings.Split(strings.Trim(u.Path, "/"), "/")
	for _, s := range segments {
		if len(s) > 15 {
			out = append(out, s)
		}
	}
	if password, is := u.User.Password(); is {
		out = append(out, password)
	}
	return out
}
