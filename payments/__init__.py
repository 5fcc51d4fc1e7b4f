"""The money: accepting a payment, charging it once, and bringing back what got stuck."""
