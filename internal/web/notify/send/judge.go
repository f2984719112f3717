package send

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"holdfast/internal/config"
)

// judge says what a service has answered, and whether it took the message: by the form that it documents.
func judge(service string, status int, body []byte) (said string, err error) {
	said = fmt.Sprintf("%d %s", status, http.StatusText(status))
	if t := strings.TrimSpace(string(body)); t != "" {
		said += ": " + t
	}
	refused := func(why string) (string, error) { return "", fmt.Errorf("%s: it answers %s", why, said) }
	if status < 200 || status > 299 {
		return refused("it was refused")
	}
	var form struct {
		ErrCode    *int `json:"errcode"`    // of WeCom and DingTalk
		Code       *int `json:"code"`       // of Feishu
		StatusCode *int `json:"StatusCode"` // of Feishu, of old
		OK         bool `json:"ok"`         // of Telegram
	}
	read := json.Unmarshal(body, &form)
	none := func(code *int) bool { return code == nil || *code != 0 }
	switch service {
	case config.Slack:
		if status != http.StatusOK || strings.TrimSpace(string(body)) != "ok" {
			return refused("it was refused")
		}
	case config.WeCom, config.DingTalk:
		if read != nil || none(form.ErrCode) {
			return refused("it was not taken")
		}
	case config.Feishu:
		if read != nil || none(form.Code) && none(form.StatusCode) {
			return refused("it was not taken")
		}
	case config.Telegram:
		if read != nil || !form.OK {
			return refused("it was not taken")
		}
	}
	return said, nil
}
