//! Terminal modes as SSH encodes them (RFC 4254, section 8), applied to a terminal.

use nix::libc;
use nix::sys::termios::{
    BaudRate, ControlFlags, InputFlags, LocalFlags, OutputFlags, SpecialCharacterIndices as Char,
    Termios, cfsetispeed, cfsetospeed,
};

/// Sets each mode that this system has; the RFC has the others ignored.
pub(crate) fn apply(termios: &mut Termios, modes: &[(u8, u32)]) {
    for (opcode, argument) in modes {
        apply_one(termios, *opcode, *argument);
    }
}

fn apply_one(termios: &mut Termios, opcode: u8, argument: u32) {
    if let Some(index) = character(opcode) {
        // 255 says "no character" in the protocol.
        let value = u8::try_from(argument).unwrap_or(u8::MAX);
        let value = if value == u8::MAX { libc::_POSIX_VDISABLE } else { value };
        if let Some(slot) = termios.control_chars.get_mut(index as usize) {
            *slot = value;
        }
        return;
    }
    let on = argument != 0;
    match opcode {
        30..=42 => input(opcode).into_iter().for_each(|flag| termios.input_flags.set(flag, on)),
        50..=62 => local(opcode).into_iter().for_each(|flag| termios.local_flags.set(flag, on)),
        70..=75 => output(opcode).into_iter().for_each(|flag| termios.output_flags.set(flag, on)),
        // CS7 and CS8 share a field of two bits, so that "off" has no meaning of its own.
        90 | 91 if on => {
            termios.control_flags.remove(ControlFlags::CSIZE);
            termios.control_flags.insert(if opcode == 90 {
                ControlFlags::CS7
            } else {
                ControlFlags::CS8
            });
        }
        92 => termios.control_flags.set(ControlFlags::PARENB, on),
        93 => termios.control_flags.set(ControlFlags::PARODD, on),
        // Speeds mean nothing to a pseudo-terminal but are shown by `stty`.
        128 | 129 => {
            if let Some(rate) = speed(argument) {
                let set = if opcode == 128 { cfsetispeed } else { cfsetospeed };
                let _ = set(termios, rate);
            }
        }
        _ => {}
    }
}

fn character(opcode: u8) -> Option<Char> {
    Some(match opcode {
        1 => Char::VINTR,
        2 => Char::VQUIT,
        3 => Char::VERASE,
        4 => Char::VKILL,
        5 => Char::VEOF,
        6 => Char::VEOL,
        7 => Char::VEOL2,
        8 => Char::VSTART,
        9 => Char::VSTOP,
        10 => Char::VSUSP,
        12 => Char::VREPRINT,
        13 => Char::VWERASE,
        14 => Char::VLNEXT,
        16 => Char::VSWTC,
        18 => Char::VDISCARD,
        _ => return None,
    })
}

fn input(opcode: u8) -> Option<InputFlags> {
    Some(match opcode {
        30 => InputFlags::IGNPAR,
        31 => InputFlags::PARMRK,
        32 => InputFlags::INPCK,
        33 => InputFlags::ISTRIP,
        34 => InputFlags::INLCR,
        35 => InputFlags::IGNCR,
        36 => InputFlags::ICRNL,
        37 => InputFlags::IUCLC,
        38 => InputFlags::IXON,
        39 => InputFlags::IXANY,
        40 => InputFlags::IXOFF,
        41 => InputFlags::IMAXBEL,
        // RFC 8160, section 2.1.
        42 => InputFlags::IUTF8,
        _ => return None,
    })
}

fn local(opcode: u8) -> Option<LocalFlags> {
    Some(match opcode {
        50 => LocalFlags::ISIG,
        51 => LocalFlags::ICANON,
        52 => LocalFlags::from_bits_retain(libc::XCASE),
        53 => LocalFlags::ECHO,
        54 => LocalFlags::ECHOE,
        55 => LocalFlags::ECHOK,
        56 => LocalFlags::ECHONL,
        57 => LocalFlags::NOFLSH,
        58 => LocalFlags::TOSTOP,
        59 => LocalFlags::IEXTEN,
        60 => LocalFlags::ECHOCTL,
        61 => LocalFlags::ECHOKE,
        62 => LocalFlags::PENDIN,
        _ => return None,
    })
}

fn output(opcode: u8) -> Option<OutputFlags> {
    Some(match opcode {
        70 => OutputFlags::OPOST,
        71 => OutputFlags::OLCUC,
        72 => OutputFlags::ONLCR,
        73 => OutputFlags::OCRNL,
        74 => OutputFlags::ONOCR,
        75 => OutputFlags::ONLRET,
        _ => return None,
    })
}

fn speed(bits_per_second: u32) -> Option<BaudRate> {
    Some(match bits_per_second {
        0 => BaudRate::B0,
        50 => BaudRate::B50,
        75 => BaudRate::B75,
        110 => BaudRate::B110,
        134 => BaudRate::B134,
        150 => BaudRate::B150,
        200 => BaudRate::B200,
        300 => BaudRate::B300,
        600 => BaudRate::B600,
        1200 => BaudRate::B1200,
        1800 => BaudRate::B1800,
        2400 => BaudRate::B2400,
        4800 => BaudRate::B4800,
        9600 => BaudRate::B9600,
        19200 => BaudRate::B19200,
        38400 => BaudRate::B38400,
        57600 => BaudRate::B57600,
        115_200 => BaudRate::B115200,
        230_400 => BaudRate::B230400,
        _ => return None,
    })
}
