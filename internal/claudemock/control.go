package claudemock

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
)

// control adds the surface by which a mock in another process is read and set.
// It asks for no key: a mock listens on this machine only.
func (s *Server) control(mux *http.ServeMux) {
	mux.HandleFunc("GET /mock/bill", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.Bill()) })
	mux.HandleFunc("POST /mock/reset", func(w http.ResponseWriter, _ *http.Request) {
		s.Reset()
		w.WriteHeader(http.StatusNoContent)
	})
	put(mux, "PUT /mock/script", s.SetScript)
	put(mux, "PUT /mock/limits", s.SetLimits)
	put(mux, "PUT /mock/ramp", s.SetRamp)
	put(mux, "PUT /mock/spend-cap", s.SetSpendCap)
}

// put is a setting that is replaced by the JSON that is sent.
func put[T any](mux *http.ServeMux, pattern string, set func(T) error) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		var v T
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err == nil {
			d := json.NewDecoder(bytes.NewReader(body))
			d.DisallowUnknownFields()
			err = d.Decode(&v)
		}
		if err == nil {
			err = set(v)
		}
		if err != nil {
			invalid("%s", err.Error()).write(w, "")
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}
