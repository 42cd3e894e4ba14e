/*-------------------------------------------------------------------------
 *
 * ids.c
 *	  Hexadecimal forms of identifiers.
 *
 *-------------------------------------------------------------------------
 */
#include "span/ids.h"

bool
id_is_zero(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

void
id_to_hex(const uint8_t *bytes, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++)
	{
		*out++ = digits[bytes[i] >> 4];
		*out++ = digits[bytes[i] & 15];
	}
	*out = '\0';
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool
id_from_hex(const char *hex, size_t hexlen, uint8_t *bytes, size_t len)
{
	return hexlen == 2 * len && id_from_short_hex(hex, hexlen, bytes, len);
}

bool
id_from_short_hex(const char *hex, size_t hexlen, uint8_t *bytes, size_t len)
{
	size_t skip;

	if (hexlen == 0 || hexlen > 2 * len)
		return false;
	skip = 2 * len - hexlen;
	for (size_t i = 0; i < len; i++)
		bytes[i] = 0;
	for (size_t i = 0; i < hexlen; i++)
	{
		int    digit = hex_digit(hex[i]);
		size_t at = skip + i;

		if (digit < 0)
			return false;
		bytes[at / 2] |= (uint8_t) (at % 2 ? digit : digit << 4);
	}
	return true;
}
