package fakestripe

// seeds returns what every fake has when it first starts: customers with ids
// that documentation can name, each with a card.
func seeds(now int64) *change {
	c := &change{}
	for _, seed := range []struct{ name, token string }{
		{"visa", "pm_card_visa"},
		{"declined", "pm_card_chargeCustomerFail"},
		{"second", "pm_card_visa"},
	} {
		c.Customers = append(c.Customers, &customer{
			ID: "cus_" + seed.name, Object: "customer", Created: now,
			Email: optional(seed.name + "@example.com"), Metadata: map[string]string{},
		})
		c.Methods = append(c.Methods, &paymentMethod{
			ID: "pm_" + seed.name, Token: seed.token, Customer: "cus_" + seed.name, Created: now,
		})
	}
	return c
}

// createCustomer makes a customer.
func createCustomer(t *tx) (any, error) {
	c := &customer{
		ID: newID("cus"), Object: "customer", Created: t.created(), Metadata: t.form.hash,
		Email: optional(t.form.text("email")), Name: optional(t.form.text("name")),
		Description: optional(t.form.text("description")),
	}
	if t.form.has("payment_method") {
		if _, err := t.attach(t.form.text("payment_method"), c.ID); err != nil {
			return nil, err
		}
	}
	t.change.Customers = append(t.change.Customers, c)
	return c, nil
}

// readCustomer shows the customer in the path.
func readCustomer(t *tx) (any, error) {
	c := t.state.customers.get(t.id)
	if c == nil {
		return nil, notFound("customer", t.id)
	}
	if c.Deleted {
		return deletedCustomer{ID: c.ID, Object: c.Object, Deleted: true}, nil
	}
	return c, nil
}

// deleteCustomer deletes a customer and detaches its payment methods. Its
// payments stay.
func (t *tx) deleteCustomer(id string) error {
	found := t.state.customers.get(id)
	if found == nil || found.Deleted {
		return notFound("customer", id)
	}
	c := *found
	c.Deleted = true
	t.change.Customers = append(t.change.Customers, &c)
	for m := range t.state.methods.all() {
		if m.Customer == id {
			t.detach(m)
		}
	}
	return nil
}

// listCustomers lists the customers that are not deleted.
func listCustomers(t *tx) (any, error) {
	email := t.form.text("email")
	return page(t, "/v1/customers", &t.state.customers, func(c *customer) (int64, bool) {
		return c.Created, !c.Deleted && (email == "" || string(c.Email) == email)
	}, func(c *customer) any { return c })
}

// attachMethod attaches the payment method in the path to a customer.
func attachMethod(t *tx) (any, error) {
	customer := t.customer(t.form.required("customer"))
	if t.form.err != nil {
		return nil, t.form.err
	}
	m, err := t.attach(t.id, customer)
	if err != nil {
		return nil, err
	}
	return m.shape(), nil
}

// readMethod shows the payment method in the path. The token of a test card
// belongs to nobody, so it shows no customer.
func readMethod(t *tx) (any, error) {
	if m := t.state.methods.get(t.id); m != nil {
		return m.shape(), nil
	}
	if _, ok := cardOf(t.id); ok {
		return (&paymentMethod{ID: t.id, Token: t.id, Created: t.created()}).shape(), nil
	}
	return nil, notFound("PaymentMethod", t.id)
}

// detachMethod detaches the payment method in the path from its customer.
func detachMethod(t *tx) (any, error) {
	m := t.state.methods.get(t.id)
	switch {
	case m == nil:
		return nil, notFound("PaymentMethod", t.id)
	case m.Customer == "":
		return nil, invalid("", "payment_method_unexpected_state", "The payment method you provided is not attached to a customer so detachment is impossible.")
	}
	return t.detach(m).shape(), nil
}

// detach detaches a payment method from its customer, for ever.
func (t *tx) detach(m *paymentMethod) *paymentMethod {
	loose := *m
	loose.Customer, loose.Detached = "", true
	t.change.Methods = append(t.change.Methods, &loose)
	return &loose
}

// detached makes the 400 for the use of a payment method that was detached.
func detached() *apiError {
	return invalid("payment_method", "", "The provided PaymentMethod was previously used with a PaymentIntent without Customer attachment, "+
		"shared with a connected account without Customer attachment, or was detached from a Customer. It may not be used again. "+
		"To use a PaymentMethod multiple times, you must attach it to a Customer first.")
}

// attach attaches a payment method to a customer. Stripe tries the card then,
// so most test cards that are declined fail already here.
func (t *tx) attach(id, customer string) (*paymentMethod, error) {
	m, err := t.resolve(id)
	if err != nil {
		return nil, err
	}
	if m.Detached {
		return nil, detached()
	}
	if m.Customer != "" && m.Customer != customer {
		return nil, invalid("", "payment_method_unexpected_state",
			"The payment method you provided has already been attached to a customer.")
	}
	if c, _ := cardOf(m.Token); c.unattachable {
		return nil, cardError(decline(c.declineCode), nil)
	}
	attached := *m
	attached.Customer = customer
	t.change.Methods = append(t.change.Methods, &attached)
	return &attached, nil
}

// resolve returns the payment method with an id. For the token of a test card
// it returns a new one: each use of a token is another payment method, as at
// Stripe.
func (t *tx) resolve(id string) (*paymentMethod, error) {
	if m := t.state.methods.get(id); m != nil {
		return m, nil
	}
	if _, ok := cardOf(id); ok {
		return &paymentMethod{ID: newID("pm"), Token: id, Created: t.created()}, nil
	}
	return nil, noSuch("PaymentMethod", id, "payment_method")
}
