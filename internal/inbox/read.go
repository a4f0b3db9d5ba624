package inbox

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"strings"
)

// read reads a message (RFC 5322), and of its parts the plain text and the
// HTML.
func read(r io.Reader) (Message, error) {
	received, err := mail.ReadMessage(r)
	if err != nil {
		return Message{}, fmt.Errorf("reading the header: %w", err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(received.Header.Get("Subject"))
	if err != nil {
		return Message{}, fmt.Errorf("reading the subject: %w", err)
	}
	m := Message{Subject: subject, MessageID: strings.Trim(received.Header.Get("Message-Id"), "<>")}
	return m, m.readPart(textproto.MIMEHeader(received.Header), received.Body)
}

// readPart reads a part, and the parts within it (RFC 2046).
func (m *Message) readPart(header textproto.MIMEHeader, body io.Reader) error {
	kind, params, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		return fmt.Errorf("reading a content type: %w", err)
	}
	if !strings.HasPrefix(kind, "multipart/") {
		text, err := io.ReadAll(decode(header.Get("Content-Transfer-Encoding"), body))
		if err != nil {
			return fmt.Errorf("reading a part: %w", err)
		}
		switch kind {
		case "text/plain":
			m.Text = string(text)
		case "text/html":
			m.HTML = string(text)
		}
		return nil
	}
	parts := multipart.NewReader(body, params["boundary"])
	for {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading parts: %w", err)
		}
		if err := m.readPart(part.Header, part); err != nil {
			return err
		}
	}
}

// decode undoes a transfer encoding (RFC 2045).
func decode(encoding string, body io.Reader) io.Reader {
	switch strings.ToLower(encoding) {
	case "quoted-printable":
		return quotedprintable.NewReader(body)
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, body)
	default:
		return body
	}
}
