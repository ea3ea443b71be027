package server

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// The largest JSON body that is read, in bytes.
const maxJSON = 64 << 10

// readJSON reads a request's body into v. Members that v does not have are
// ignored, as unknown form fields are.
func (rq *request) readJSON(v any) error {
	raw, err := rq.readBody()
	if err != nil {
		return err
	}
	return decodeJSON(raw, v)
}

// readOptionalJSON is readJSON for a body that may be left out.
func (rq *request) readOptionalJSON(v any) error {
	raw, err := rq.readBody()
	if err != nil || len(raw) == 0 {
		return err
	}
	return decodeJSON(raw, v)
}

func (rq *request) readBody() ([]byte, error) {
	body := rq.server.paced(rq)
	defer body.done()
	body.allow(maxJSON + 1)
	raw, err := io.ReadAll(io.LimitReader(body, maxJSON+1))
	if err != nil {
		return nil, formError(err)
	}
	if len(raw) > maxJSON {
		return nil, invalidRequest("The body is larger than %s.", size(maxJSON))
	}
	return raw, nil
}

// decodeJSON says what is wrong with a body in words that name its members,
// not our types.
func decodeJSON(raw []byte, v any) error {
	err := json.Unmarshal(raw, v)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong) && wrong.Field != "":
		field := wrong.Field[strings.LastIndexByte(wrong.Field, '.')+1:]
		return invalidRequest("%s must not be a JSON %s.", field, wrong.Value)
	case errors.As(err, &wrong):
		return invalidRequest("The body must be a JSON object.")
	default:
		return invalidRequest("The body is not valid JSON.")
	}
}
