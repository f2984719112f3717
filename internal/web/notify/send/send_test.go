package send

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/config"
	"holdfast/testbed/try"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

const (
	subject = "[prod] critical: takeover"
	body    = "2026-03-01 12:00:00Z critical takeover: h1 -> h3 & co\nMessage: abc"
	key     = "SEC0123456789abcdef"
)

// to is a message to a service, with the URL and the secret that an operator would have.
func to(service string) Request {
	r := Request{Service: service, Subject: subject, Body: body, Cluster: "prod", Severity: "critical", ID: "abc", Events: 1,
		Time: time.Now()}
	switch service {
	case config.Slack:
		r.URL = "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"
	case config.Teams:
		r.URL = "https://flow.example.com/workflows/0123456789abcdef/triggers/manual/paths/invoke?api-version=2016-06-01&sig=S3cretS3cret"
	case config.Feishu:
		r.URL, r.Secret = "https://open.feishu.cn/open-apis/bot/v2/hook/01234567-89ab-cdef-0123-456789abcdef", key
	case config.WeCom:
		r.URL = "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=01234567-89ab-cdef-0123-456789abcdef"
	case config.DingTalk:
		r.URL, r.Secret = "https://oapi.dingtalk.com/robot/send?access_token=0123456789abcdef0123456789abcdef", key
	case config.Telegram:
		r.Secret, r.To = "123456789:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr", "-1001234567890"
	case config.Webhook:
		r.URL, r.Secret = "https://flow.example.com/hook?title=a&x=b%20c", "Bearer "+key
	}
	return r
}

// good is what a service answers that took a message.
var good = map[string]struct {
	status int
	body   string
}{
	config.Slack: {200, "ok"}, config.Teams: {202, ""}, config.Feishu: {200, `{"StatusCode":0,"StatusMessage":"success","code":0,"data":{},"msg":"success"}`},
	config.WeCom: {200, `{"errcode":0,"errmsg":"ok"}`}, config.DingTalk: {200, `{"errcode":0,"errmsg":"ok"}`},
	config.Telegram: {200, `{"ok":true,"result":{"message_id":1}}`}, config.Webhook: {204, ""},
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status); _, _ = io.WriteString(w, body) }
}

func object(t *testing.T, s string) (o map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(s), &o); err != nil {
		t.Fatalf("%v: %s", err, s)
	}
	return o
}

// form is what a service documents that it takes.
var form = map[string]func(t *testing.T, r asked){
	config.Slack: func(t *testing.T, r asked) {
		o := object(t, r.body)
		if r.URL.Path != "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX" || o["text"] != subject {
			t.Errorf("%s %s", r.URL.Path, r.body)
		}
		var lines []string
		for _, a := range o["attachments"].([]any) {
			lines = append(lines, a.(map[string]any)["text"].(string))
		}
		if strings.Join(lines, "\n") != "2026-03-01 12:00:00Z critical takeover: h1 -&gt; h3 &amp; co\nMessage: abc" {
			t.Errorf("%q", lines)
		}
	},
	config.Teams: func(t *testing.T, r asked) {
		o := object(t, r.body)
		a := o["attachments"].([]any)[0].(map[string]any)
		card := a["content"].(map[string]any)
		if o["type"] != "message" || a["contentType"] != "application/vnd.microsoft.card.adaptive" || card["type"] != "AdaptiveCard" ||
			len(card["body"].([]any)) != 3 || !strings.Contains(r.body, `"text":"[prod] critical: takeover"`) {
			t.Error(r.body)
		}
		if q := r.URL.Query(); q.Get("api-version") != "2016-06-01" || q.Get("sig") != "S3cretS3cret" || len(q) != 2 {
			t.Error(r.URL)
		}
	},
	config.Feishu: func(t *testing.T, r asked) {
		o := object(t, r.body)
		at, _ := o["timestamp"].(string)
		if s, err := strconv.ParseInt(at, 10, 64); err != nil || time.Since(time.Unix(s, 0)).Abs() > time.Hour {
			t.Errorf("timestamp %q: want seconds, now", at)
		}
		h := hmac.New(sha256.New, []byte(at+"\n"+key)) // of nothing, by that key: so it is documented
		if o["sign"] != base64.StdEncoding.EncodeToString(h.Sum(nil)) || o["msg_type"] != "text" ||
			!reflect.DeepEqual(o["content"], map[string]any{"text": subject + "\n" + body}) ||
			r.URL.Path != "/open-apis/bot/v2/hook/01234567-89ab-cdef-0123-456789abcdef" {
			t.Errorf("%s %s", r.URL.Path, r.body)
		}
	},
	config.WeCom: func(t *testing.T, r asked) {
		want := map[string]any{"msgtype": "text", "text": map[string]any{"content": subject + "\n" + body}}
		if o := object(t, r.body); !reflect.DeepEqual(o, want) || r.URL.RequestURI() != "/cgi-bin/webhook/send?key=01234567-89ab-cdef-0123-456789abcdef" {
			t.Errorf("%s %s", r.URL, r.body)
		}
	},
	config.DingTalk: func(t *testing.T, r asked) {
		q := r.URL.Query()
		h := hmac.New(sha256.New, []byte(key))
		h.Write([]byte(q.Get("timestamp") + "\n" + key))
		if ms, err := strconv.ParseInt(q.Get("timestamp"), 10, 64); err != nil || time.Since(time.UnixMilli(ms)).Abs() > time.Hour {
			t.Errorf("timestamp %q: want milliseconds, now", q.Get("timestamp"))
		}
		want := map[string]any{"msgtype": "text", "text": map[string]any{"content": subject + "\n" + body}}
		if q.Get("sign") != base64.StdEncoding.EncodeToString(h.Sum(nil)) || q.Get("access_token") != "0123456789abcdef0123456789abcdef" ||
			r.URL.Path != "/robot/send" || !reflect.DeepEqual(object(t, r.body), want) {
			t.Errorf("%s %s", r.URL, r.body)
		}
	},
	config.Telegram: func(t *testing.T, r asked) {
		o := object(t, r.body)
		if r.URL.Path != "/bot123456789:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr/sendMessage" || o["chat_id"] != "-1001234567890" ||
			o["text"] != subject+"\n"+body || o["parse_mode"] != nil {
			t.Errorf("%s %s", r.URL.Path, r.body)
		}
	},
	config.Webhook: func(t *testing.T, r asked) {
		o := object(t, r.body)
		if q := r.URL.Query(); q.Get("title") != "a" || q.Get("x") != "b c" || len(q) != 2 || r.Header.Get("Authorization") != "Bearer "+key {
			t.Error(r.URL, r.Header)
		}
		if o["id"] != "abc" || o["cluster"] != "prod" || o["severity"] != "critical" || o["subject"] != subject || o["text"] != body ||
			o["events"] != 1.0 || o["test"] != false || o["time"] == nil {
			t.Error(r.body)
		}
	},
}

func TestEachServiceGetsTheFormThatItDocuments(t *testing.T) {
	for name, answer := range good {
		t.Run(name, func(t *testing.T) {
			s := serve(t, says(answer.status, answer.body))
			r := to(name)
			r.CA = s.ca.file
			said, err := sends(t, r)
			if err != nil || !strings.HasPrefix(said, fmt.Sprint(answer.status)) {
				t.Fatalf("%q, %v", said, err)
			}
			got := s.only()
			if got.Method != http.MethodPost || got.Header.Get("Content-Type") != "application/json" {
				t.Error(got.Method, got.Header)
			}
			form[name](t, got)
		})
	}
}

func TestWhatAServiceDoesNotTakeIsAFailure(t *testing.T) {
	page := "<html><title>Log in to this network</title></html>"
	for name, cases := range map[string][]struct {
		status int
		body   string
		want   string
	}{
		config.Slack: {{404, "no_service", "404 Not Found: no_service"},
			{403, "invalid_token", "403"}, {200, page, "it was refused"}, {200, "", "it was refused"},
			{500, "ok", "500"}},
		config.Teams: {{400, `{"error":{"code":"TriggerInputSchemaMismatch"}}`, "TriggerInputSchemaMismatch"}, {404, "", "404"}},
		config.Feishu: {{200, `{"code":19021,"msg":"sign match fail or timestamp is not within one hour from current time"}`, "sign match fail"},
			{200, "{}", "it was not taken"}, {200, page, "it was not taken"}, {200, `{"code":9499,"msg":"Bad Request"}`, "Bad Request"}},
		config.WeCom: {{200, `{"errcode":93000,"errmsg":"invalid webhook url"}`, "invalid webhook url"}, {200, "{}", "it was not taken"},
			{200, page, "it was not taken"}, {200, `{"errcode":45009,"errmsg":"api freq out of limit"}`, "freq out of limit"}},
		config.DingTalk: {{200, `{"errcode":310000,"errmsg":"sign not match"}`, "sign not match"},
			{200, "{}", "it was not taken"}, {200, page, "it was not taken"}},
		config.Telegram: {{401, `{"ok":false,"error_code":401,"description":"Unauthorized"}`, "Unauthorized"},
			{200, "{}", "it was not taken"},
			{200, page, "it was not taken"}, {200, "null", "it was not taken"},
			{429, `{"ok":false,"error_code":429,"description":"Too Many Requests"}`, "Too Many Requests"}},
		config.Webhook: {{500, "boom\x1b[31m", "500 Internal Server Error: boom?[31m"}, {401, "", "401"}},
	} {
		for _, c := range cases {
			t.Run(fmt.Sprint(name, c.status, c.body[:min(8, len(c.body))]), func(t *testing.T) {
				s := serve(t, says(c.status, c.body))
				r := to(name)
				r.CA = s.ca.file
				said, err := sends(t, r)
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%q, %v, want a failure with %q", said, err, c.want)
				}
				s.only()
			})
		}
	}
}

// Everything that a service can do to who sends costs that message, is told with its reason, and tells no secret.
func TestAServiceThatMisbehavesCostsItsOwnMessage(t *testing.T) {
	for name := range good {
		for what, c := range map[string]struct {
			answer http.HandlerFunc
			want   string
		}{
			"hangs": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "no answer within 500ms"},
			"redirects": {func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://open.feishu.cn/elsewhere", http.StatusTemporaryRedirect)
			},
				"a redirect, which is not followed"},
			"answers without end": {func(w http.ResponseWriter, _ *http.Request) {
				page := make([]byte, 1<<20)
				for range 1 << 10 {
					if _, err := w.Write(page); err != nil {
						return
					}
				}
			}, "more than 65536 bytes"},
			"breaks off": {func(w http.ResponseWriter, _ *http.Request) {
				c, _, err := http.NewResponseController(w).Hijack()
				if err == nil {
					c.Close()
				}
			}, "EOF"},
		} {
			t.Run(name+" "+what, func(t *testing.T) {
				s := serve(t, c.answer)
				r := to(name)
				r.CA = s.ca.file
				if what == "hangs" {
					r.Within = 500 * time.Millisecond
				}
				said, err := sends(t, r)
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("%q, %v, want a failure with %q", said, err, c.want)
				}
				tellsNoSecret(t, r, err)
			})
		}
		t.Run(name+" with a certificate that nobody trusts", func(t *testing.T) {
			s := serve(t, says(good[name].status, good[name].body))
			r := to(name)
			r.CA = newAuthority(t).file
			_, err := sends(t, r)
			if err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
				t.Fatal(err)
			}
			tellsNoSecret(t, r, err)
			if len(s.got) != 0 {
				t.Error("it was asked all the same")
			}
		})
		t.Run(name+" that is not there", func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			try.Must(t, err)
			try.Must(t, ln.Close())
			t.Setenv("HTTPS_PROXY", "http://"+ln.Addr().String())
			r := to(name)
			_, err = sends(t, r)
			if err == nil || !strings.Contains(err.Error(), "connection refused") {
				t.Fatal(err)
			}
			tellsNoSecret(t, r, err)
		})
		t.Run(name+" that repeats what it was asked", func(t *testing.T) {
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusForbidden)
				fmt.Fprint(w, "not for ", r.URL, " ", r.Header)
			})
			r := to(name)
			r.CA = s.ca.file
			_, err := sends(t, r)
			if err == nil {
				t.Fatal("want a failure")
			}
			tellsNoSecret(t, r, err)
		})
	}
}

// tellsNoSecret looks for what is secret in an error.
func tellsNoSecret(t *testing.T, r Request, err error) {
	t.Helper()
	for _, s := range []string{key, "XXXXXXXXXXXXXXXX", "89ab-cdef", "0123456789abcdef0123", "S3cret", "AAbbCC"} {
		if strings.Contains(err.Error(), s) {
			t.Errorf("%s: the error tells the secret %s: %v", r.Service, s, err)
		}
	}
}

func TestAnAddressThatIsNoneIsToldWithoutIt(t *testing.T) {
	for name := range good {
		for _, bad := range []string{"", "S3cretS3cret", "https://", "https://evil.example.com/S3cret",
			"ftp://hooks.slack.com/S3cret", "https://hooks.slack.com/S3cret\n"} {
			if name == config.Telegram || strings.HasPrefix(bad, "https://evil") && (name == config.Webhook || name == config.Teams) ||
				bad[:min(9, len(bad))] == "https://h" {
				continue
			}
			r := to(name)
			r.URL = bad
			_, err := sends(t, r)
			if err == nil || !strings.Contains(err.Error(), "want the URL that the service shows") {
				t.Errorf("%s %q: %v", name, bad, err)
			} else {
				tellsNoSecret(t, r, err)
			}
		}
	}
	r := to(config.Telegram)
	r.Secret = "AAbbCC"
	if _, err := sends(t, r); err == nil {
		t.Error("want a failure: that is no token")
	} else {
		tellsNoSecret(t, r, err)
	}
}

func TestAWebhookMayBePlain(t *testing.T) {
	got := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.URL.String() }))
	defer srv.Close()
	r := to(config.Webhook)
	r.URL = srv.URL + "/a?b=c"
	if said, err := sends(t, r); err != nil || <-got != "/a?b=c" {
		t.Error(said, err)
	}
}

func TestAMessageThatComesTooLateIsNotSent(t *testing.T) {
	s := serve(t, says(200, "ok"))
	r := to(config.Slack)
	r.CA, r.Until = s.ca.file, time.Now().Add(-time.Second)
	if _, err := sends(t, r); err == nil || !strings.Contains(err.Error(), "too late") || len(s.got) != 0 {
		t.Errorf("%v, %d requests", err, len(s.got))
	}
}

func TestAProgramThatIsNotThereIsToldWithoutSecrets(t *testing.T) {
	r := to(config.Feishu)
	_, err := Run(t.Context(), r, "/nonexistent/holdfast")
	if err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
	if _, err = Run(t.Context(), r, "/bin/cat"); err == nil {
		t.Error("what is no answer is a failure")
	} else {
		tellsNoSecret(t, r, err)
	}
}
