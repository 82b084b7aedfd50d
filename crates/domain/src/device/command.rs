//! Commands from the province to its devices.

use serde::{Deserialize, Serialize};

use super::fields::{Fields, FromDevice};
use super::{MAX_DEVICE_ID, MAX_DEVICE_TEXT};
use crate::refusal::{Field, Refusal};

/// The codes that stand for commands. Only that `"0"` sets the volume is known from the field; the others are not
/// public, so these are our own defaults, to be set per vendor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CommandCodes {
    /// Sets the volume.
    pub volume: String,
    /// Stops, skips, pauses, resumes.
    pub stop: String,
    /// Restarts the device.
    pub restart: String,
    /// Plays an emergency at once.
    pub emergency: String,
}

impl Default for CommandCodes {
    fn default() -> Self {
        Self { volume: "0".into(), stop: "1".into(), restart: "2".into(), emergency: "3".into() }
    }
}

/// How to stop, `ThamSo` of the stop command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopMode {
    /// `"0"`: stop, and drop the rest.
    All,
    /// `"1"`: on to the next item.
    Skip,
    /// `"2"`
    Pause,
    /// `"3"`
    Resume,
}

impl StopMode {
    const ALL: [(Self, &'static str); 4] =
        [(Self::All, "0"), (Self::Skip, "1"), (Self::Pause, "2"), (Self::Resume, "3")];
}

/// What a device can be told to do. There is no command that runs anything: a device plays, or it does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Percent, 0 to 100.
    Volume(u8),
    /// Stop, skip, pause or resume; a device in an emergency does not obey.
    Stop(StopMode),
    /// Restart.
    Restart,
    /// Play the emergency bulletin with this identifier.
    PlayEmergency(String),
}

/// `DieuKhienThietBi`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Control {
    /// The command's code.
    #[serde(rename = "MaLenh")]
    pub code: String,
    /// Its parameter.
    #[serde(rename = "ThamSo")]
    pub parameter: String,
}

impl CommandCodes {
    /// That no code is missing or stands for two commands.
    pub fn check(&self) -> Result<(), Refusal> {
        let codes = [
            ("volume", &self.volume),
            ("stop", &self.stop),
            ("restart", &self.restart),
            ("emergency", &self.emergency),
        ];
        for (index, (name, code)) in codes.iter().enumerate() {
            let field = Field::new(format!("command_codes.{name}"), "Mã lệnh", "Command code");
            if code.is_empty() {
                return Err(Refusal::Required { field });
            }
            if codes[..index].iter().any(|(_, other)| other == code) {
                return Err(Refusal::Duplicate { field, given: (*code).clone() });
            }
        }
        Ok(())
    }

    /// The command on the wire. A volume above 100 is refused.
    pub fn encode(&self, command: &Command) -> Result<Control, Refusal> {
        let (code, parameter) = match command {
            Command::Volume(percent @ 0..=100) => (&self.volume, percent.to_string()),
            Command::Volume(percent) => {
                let field = Field::new("volume", "Âm lượng", "Volume");
                return Err(Refusal::OutOfRange { field, given: percent.to_string(), min: 0, max: 100 });
            }
            Command::Stop(mode) => {
                let code = StopMode::ALL.iter().find(|(other, _)| other == mode).map_or("0", |(_, code)| code);
                (&self.stop, code.to_owned())
            }
            Command::Restart => (&self.restart, String::new()),
            Command::PlayEmergency(bulletin) => (&self.emergency, bulletin.clone()),
        };
        Ok(Control { code: code.clone(), parameter })
    }

    /// The command behind what came over the wire; none for what is not known.
    pub fn decode(&self, control: &Control) -> Option<Command> {
        let (code, parameter) = (&control.code, control.parameter.as_str());
        if *code == self.volume {
            parameter.parse().ok().filter(|percent| *percent <= 100).map(Command::Volume)
        } else if *code == self.stop {
            StopMode::ALL.iter().find(|(_, code)| *code == parameter).map(|(mode, _)| Command::Stop(*mode))
        } else if *code == self.restart {
            Some(Command::Restart)
        } else if *code == self.emergency && !parameter.is_empty() {
            Some(Command::PlayEmergency(parameter.to_owned()))
        } else {
            None
        }
    }
}

/// An entry of `DanhSachDiaBanNhan`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Destination {
    /// Area code.
    #[serde(rename = "DichID")]
    pub id: String,
    /// Its name.
    #[serde(rename = "TenDich")]
    pub name: String,
}

/// `DanhSachThietBi`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Devices {
    /// IMEIs; empty for all devices of the areas.
    #[serde(rename = "CumLoaID")]
    pub imeis: Vec<String>,
}

/// A command with whom it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommandMessage {
    /// Area code of the sender.
    #[serde(rename = "NguonID")]
    pub source_id: String,
    /// Its name.
    #[serde(rename = "TenNguon")]
    pub source_name: String,
    /// Areas.
    #[serde(rename = "DanhSachDiaBanNhan")]
    pub destinations: Vec<Destination>,
    /// Devices.
    #[serde(rename = "DanhSachThietBi")]
    pub devices: Devices,
    /// What to do.
    #[serde(rename = "DieuKhienThietBi")]
    pub control: Control,
}

impl FromDevice for Destination {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self { id: fields.required("DichID", MAX_DEVICE_ID)?, name: fields.text("TenDich", MAX_DEVICE_TEXT)? })
    }
}

impl FromDevice for Devices {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self { imeis: fields.texts("CumLoaID", MAX_DEVICE_ID)? })
    }
}

impl FromDevice for Control {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self { code: fields.required("MaLenh", MAX_DEVICE_ID)?, parameter: fields.text("ThamSo", MAX_DEVICE_TEXT)? })
    }
}

impl FromDevice for CommandMessage {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let control = fields.object("DieuKhienThietBi")?;
        let control = control.ok_or_else(|| Refusal::Required { field: fields.field("DieuKhienThietBi") })?;
        let devices = fields.object("DanhSachThietBi")?;
        Ok(Self {
            source_id: fields.text("NguonID", MAX_DEVICE_ID)?,
            source_name: fields.text("TenNguon", MAX_DEVICE_TEXT)?,
            destinations: fields.objects("DanhSachDiaBanNhan")?,
            devices: devices.map_or_else(|| Ok(Devices::default()), |devices| Devices::from_fields(&devices))?,
            control: Control::from_fields(&control)?,
        })
    }
}
